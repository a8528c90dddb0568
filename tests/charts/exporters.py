"""What our processes export, as registries: the real ones, but for vLLM, which wants a model."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.registry import Collector

from builders import a_checkpoint, manifest
from rljob_api.progress import Progress, TrainPhase
from rljob_operator import metrics
from rljob_operator.job_metrics import JobMetrics
from rljob_operator.jobs import Jobs
from rljob_trainer.metrics import BoardCollector

METADATA = {"namespace": "team", "name": "math", "uid": "1", "resourceVersion": "1"}
ENDINGS = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}


def operator() -> CollectorRegistry:
    """The operator's own, after it has done something of everything."""
    metrics.API_REQUESTS.labels("GET").inc()
    metrics.API_REFUSALS.labels("Forbidden").inc()
    metrics.WATCH_RESTARTS.labels("pods", "Gone").inc()
    metrics.RECONCILE_ERRORS.labels("Conflict").inc()
    metrics.RECONCILE_SECONDS.observe(0.01)
    metrics.QUEUE_SECONDS.observe(0.01)
    metrics.LEADING.set(1)
    registry = CollectorRegistry()
    jobs = Jobs(lambda _: None)
    jobs.put(manifest() | {"metadata": METADATA, "status": {"phase": "Training", "restarts": 1}})
    registry.register(REGISTRY)
    registry.register(JobMetrics(lambda: jobs))
    return registry


def trainer(learned: Iterable[str]) -> CollectorRegistry:
    """Rank 0's, in the middle of a run that tells these metrics of training."""
    progress = Progress(
        attempt=1,
        step=2,
        total_steps=3,
        phase=TrainPhase.TRAIN,
        heartbeat=0.0,
        metrics=dict.fromkeys(learned, 1.0),
        estimated_remaining_seconds=1.0,
        weight_version=1,
        checkpoint=a_checkpoint(),
    )
    registry = CollectorRegistry()
    registry.register(BoardCollector(lambda: progress, lambda: {TrainPhase.TRAIN: 1.0}, lambda: 10.0))
    return registry


def vllm_stand_in() -> CollectorRegistry:
    """That vLLM has these names, `test_monitoring` says."""
    registry = CollectorRegistry()
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        Gauge(f"vllm:{name}", name, registry=registry).set(1)
    Counter("vllm:generation_tokens", "tokens", registry=registry).inc()
    return registry


def series(registry: Collector) -> Iterator[str]:
    """Names of its series. A counter without samples yet has its name all the same."""
    for family in registry.collect():
        yield family.name
        yield from (family.name + ending for ending in ENDINGS.get(family.type, []))


def vllm_series() -> Iterator[str]:
    """From vLLM's source: importing its metrics would want a whole engine."""
    source = (package("vllm") / "v1" / "metrics" / "loggers.py").read_text()
    for name in re.findall(r'"(vllm:[a-z_]+)"', source):
        yield from (name, f"{name}_total", f"{name}_bucket")


def package(name: str) -> Path:
    """Where its source lies."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
