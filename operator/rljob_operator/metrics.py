"""What the operator tells Prometheus about itself. Each metric is declared here; the rooms that know count.

Counters of trouble have their most likely series from the start, at 0: in the first count of a series that was not
there `rate` and `increase` see nothing, and the alerts of the chart ask these.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

API_REQUESTS = Counter(
    "rljob_operator_api_requests", "Requests to the API server; verbs as in its own metrics.", ["verb"]
)
API_REFUSALS = Counter("rljob_operator_api_refusals", "Objects that the API server refused.", ["reason"])
WATCH_RESTARTS = Counter("rljob_operator_watch_restarts", "Watches that began anew.", ["resource", "cause"])
QUEUE_DEPTH = Gauge("rljob_operator_queue_depth", "Jobs that wait for a worker of the leader.")
QUEUE_SECONDS = Histogram("rljob_operator_queue_seconds", "Time from a change to the start of a pass.")
RECONCILE_SECONDS = Histogram("rljob_operator_reconcile_seconds", "Duration of a pass over one job.")
RECONCILE_ERRORS = Counter(
    "rljob_operator_reconcile_errors", "Passes that failed and are tried again.", ["cause"]
)
LEADING = Gauge("rljob_operator_leading", "1 while this process holds the lease.")


def _count_from_0() -> None:
    for counter, *usual in (
        (API_REFUSALS, "Forbidden"),
        (API_REFUSALS, "Invalid"),
        (RECONCILE_ERRORS, "Conflict"),
        (RECONCILE_ERRORS, "TooManyRequests"),
        (WATCH_RESTARTS, "pods", "Expired"),
    ):
        counter.labels(*usual)


_count_from_0()
