"""The dashboard of the operator, and of all jobs beside each other."""

from __future__ import annotations

from .grafana import Dashboard, Panel, Row


def _quantiles(histogram: str) -> dict[str, str]:
    rate = f"sum by (le) (rate({histogram}_bucket[$__rate_interval]))"
    return {f"p{int(100 * share)}": f"histogram_quantile({share}, {rate})" for share in (0.5, 0.99)}


def _rate(counter: str, label: str) -> dict[str, str]:
    return {f"{{{{{label}}}}}": f"sum by ({label}) (rate({counter}_total[$__rate_interval]))"}


JOBS = Row(
    "Jobs",
    (
        Panel("Jobs", {"{{phase}}": "sum by (phase) (rljob_jobs)"}, "By phase."),
        Panel(
            "Restarts",
            {
                "{{job_namespace}}/{{rljob}}": "max by (job_namespace, rljob) (rljob_job_restarts)",
                "{{job_namespace}}/{{rljob}}, preempted": "max by (job_namespace, rljob) (rljob_job_preemptions)",
            },
            "Of the trainer gang, since the job began; how many of them the cluster asked for.",
        ),
        Panel(
            "Progress",
            {
                "{{namespace}}/{{rljob}}": "max by (namespace, rljob) (rljob_step)"
                " / max by (namespace, rljob) (rljob_steps_total)"
            },
            "Share of steps that are done, of jobs that train.",
            "percentunit",
        ),
        Panel(
            "Since the newest checkpoint",
            {"{{namespace}}/{{rljob}}": "max by (namespace, rljob) (rljob_checkpoint_age_seconds)"},
            "What a crash now would cost.",
            "s",
        ),
        Panel(
            "Since the last sign of life",
            {"{{namespace}}/{{rljob}}": "max by (namespace, rljob) (rljob_heartbeat_age_seconds)"},
            "Grows without end: the job hangs.",
            "s",
        ),
    ),
)

WORK = Row(
    "Work",
    (
        Panel("Passes", _quantiles("rljob_operator_reconcile_seconds"), "Duration of one over a job.", "s"),
        Panel(
            "Waiting",
            _quantiles("rljob_operator_queue_seconds"),
            "From a change to its pass. High: raise `workers`.",
            "s",
        ),
        Panel("Queue", {"jobs": "sum(rljob_operator_queue_depth)"}, "Jobs that wait for a worker."),
        Panel(
            "Failed passes",
            _rate("rljob_operator_reconcile_errors", "cause"),
            "They are tried again, with growing pauses.",
        ),
    ),
)

API = Row(
    "API server",
    (
        Panel("Requests", _rate("rljob_operator_api_requests", "verb"), "Near 0 while nothing changes."),
        Panel(
            "Refused objects",
            _rate("rljob_operator_api_refusals", "reason"),
            "Quota, admission webhooks, missing rights.",
        ),
        Panel(
            "Watches begun anew",
            _rate("rljob_operator_watch_restarts", "cause"),
            "Some are normal; many at once: the API server or the network.",
        ),
    ),
)

PROCESS = Row(
    "Process",
    (
        Panel(
            "Leaders",
            {"{{namespace}}/{{job}}": "sum by (namespace, job) (rljob_operator_leading)"},
            "Of each release: 1 is right.",
        ),
        Panel(
            "Memory",
            {"{{pod}}": "max by (pod) (process_resident_memory_bytes * on (pod) rljob_operator_leading)"},
            "Of the leader.",
            "bytes",
        ),
        Panel(
            "Processor",
            {
                "{{pod}}": "rate(process_cpu_seconds_total[$__rate_interval])"
                " and on (pod) rljob_operator_leading"
            },
            "Cores.",
        ),
    ),
)

OPERATOR = Dashboard(
    uid="rljob-operator",
    title="RLJob: operator and all jobs",
    variables={},
    rows=(JOBS, WORK, API, PROCESS),
)
