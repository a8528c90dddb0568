"""What jobs look like from outside, for Prometheus: read from their statuses when it asks."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rljob_api.base import Manifest

from . import times
from .jobs import Jobs

LABELS = ("job_namespace", "rljob")
"""Prometheus keeps `namespace` and `job` for what it scrapes, which is the operator."""


class JobMetrics(Collector):
    """`jobs` gives the jobs as they are known now; none while this process does not lead."""

    def __init__(self, jobs: Callable[[], Jobs | None]) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        phases = GaugeMetricFamily("rljob_jobs", "Jobs by phase.", labels=("phase",))
        restarts = GaugeMetricFamily("rljob_job_restarts", "Restarts of the trainer gang.", labels=LABELS)
        preemptions = GaugeMetricFamily("rljob_job_preemptions", "Of these, by the cluster.", labels=LABELS)
        replaced = GaugeMetricFamily("rljob_job_rollout_restarts", "Replaced rollout servers.", labels=LABELS)
        age = GaugeMetricFamily(
            "rljob_job_checkpoint_age_seconds",
            "Age of the newest checkpoint of a job that runs.",
            labels=LABELS,
        )
        count: Counter[str] = Counter()
        for key, status in self._statuses():
            count[status.get("phase", "Pending")] += 1
            restarts.add_metric(key, status.get("restarts", 0))
            preemptions.add_metric(key, status.get("preemptions", 0))
            replaced.add_metric(key, status.get("rollout", {}).get("restarts", 0))
            if (saved := _saved(status)) is not None:
                age.add_metric(key, max(0.0, time.time() - saved))
        for phase, number in count.items():
            phases.add_metric((phase,), number)
        yield from (phases, restarts, preemptions, replaced, age)

    def _statuses(self) -> Iterator[tuple[tuple[str, str], Manifest]]:
        jobs = self._jobs()
        for key, stored in jobs.items() if jobs is not None else ():
            yield key, json.loads(stored.text).get("status") or {}


def _saved(status: Manifest) -> float | None:
    """When the newest checkpoint was saved; only while a job runs is its age of any concern."""
    latest = status.get("checkpoint", {}).get("latest")
    over = status.get("completionTime") or status.get("phase") == "Suspended"
    return times.to_seconds(latest["time"]) if latest and not over else None
