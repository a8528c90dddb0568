"""What jobs look like from outside, for Prometheus: read from their statuses when it asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rljob_api.goodput import Use

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
        shares = GaugeMetricFamily(
            "rljob_job_time_share",
            "What a job's time went into; together 1. `productive` is its goodput.",
            labels=(*LABELS, "use"),
        )
        gpu_shares = GaugeMetricFamily(
            "rljob_job_gpu_time_share",
            "The same of its GPU time: each second counts as many times as GPUs were held. Absent without GPUs.",
            labels=(*LABELS, "use"),
        )
        count: Counter[str] = Counter()
        jobs = self._jobs()
        for key, stored in jobs.items() if jobs is not None else ():
            told = stored.told
            count[told.phase] += 1
            restarts.add_metric(key, told.restarts)
            preemptions.add_metric(key, told.preemptions)
            replaced.add_metric(key, told.rollout_restarts)
            for use, share in zip(Use, told.shares, strict=False):
                shares.add_metric((*key, use.value), share)
            for use, share in zip(Use, told.gpu_shares, strict=False):
                gpu_shares.add_metric((*key, use.value), share)
            if told.saved_at is not None:
                age.add_metric(key, max(0.0, time.time() - told.saved_at))
        for phase, number in count.items():
            phases.add_metric((phase,), number)
        yield from (phases, restarts, preemptions, replaced, age, shares, gpu_shares)
