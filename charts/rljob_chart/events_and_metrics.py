"""`docs/events-and-metrics.md`: what the operator and rank 0 tell others, read from the code that tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from rljob_api.progress import Progress, TrainPhase
from rljob_api.reasons import Reason
from rljob_api.schema import enum_descriptions
from rljob_api.status import CheckpointFacts
from rljob_operator import metrics
from rljob_operator.happenings import TELLINGS, Telling
from rljob_operator.job_metrics import JobMetrics
from rljob_trainer.metrics import families

EVENTS = """# Events and metrics

Made from the code by `make crds`. Fields, conditions and reasons are in [reference.md](reference.md).

## Events

`kubectl rljob events JOB` shows them in order, and so does `kubectl describe rljob JOB`, which knows whole seconds
only; each is told once. Most are told when a condition moves: their `reason` and their message are the condition's. An
operator that is told to stop posts what is left to tell, for three seconds at most; one that is killed does not, so
count on the conditions.
"""
OPERATOR = """## Metrics of the operator

On port 8080 of its Service, at `/metrics`. `job_namespace` and `rljob` name a job. Those of the process
itself are there too (`process_`, `python_`).
"""
TRAINER = """## Metrics of a job

On port 29401 of the pod of rank 0, at `/metrics`. `rljob_metric` has the numbers of the last finished step, which are
those of `status.progress.metrics`. vLLM servers have metrics of vLLM's own on port 29402.
"""
ALONE = {
    Reason.ATTEMPT_STARTED: "Normal, Warning",
    Reason.POD_FAILED: "Warning",
    Reason.ROLLOUT_REPLACED: "Warning",
}
"""Events that follow from no condition."""


def events_and_metrics() -> str:
    """The whole page."""
    operator = _table(chain(_declared(), _collected(JobMetrics(lambda: None).collect())))
    trainer = _table(_collected(_told_by_rank_0()))
    return "\n".join([EVENTS, *_events(), OPERATOR, *operator, TRAINER, *trainer])


def _events() -> Iterator[str]:
    meanings = enum_descriptions()["Reason"]
    yield from ("| reason | type | told when |", "|---|---|---|")
    for reason, kind in ALONE.items():
        yield f"| `{reason}` | {kind} | {' '.join(meanings[reason].split())} |"
    for telling in TELLINGS:
        yield f"| {_reasons(telling)} | {telling.kind} | {_when(telling)} |"
    yield ""


def _reasons(telling: Telling) -> str:
    if telling.only:
        return ", ".join(f"`{reason}`" for reason in sorted(telling.only))
    return f"that of `{telling.condition}`"


def _when(telling: Telling) -> str:
    if telling.only:
        status = f" with `{telling.status}`" if telling.status else ""
        return f"The condition `{telling.condition}` gets the reason{status}."
    becomes = f"becomes `{telling.status}`" if telling.status else "gets another reason"
    but = " or ".join(f"`{reason}`" for reason in sorted(telling.but))
    return f"The condition `{telling.condition}` {becomes}{f', and it is not {but}' if but else ''}."


def _table(rows: Iterable[str]) -> Iterator[str]:
    return chain(("| metric | kind | labels | meaning |", "|---|---|---|---|"), rows, ("",))


def _declared() -> Iterator[str]:
    """Those of `metrics.py`."""
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):
            yield from (_row(family, one._labelnames) for family in one.describe())


def _collected(told: Iterable[Metric]) -> Iterator[str]:
    """Those that are made when Prometheus asks."""
    return (_row(family, getattr(family, "_labelnames", ())) for family in told)


def _row(family: Metric, labels: Sequence[str]) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    told = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {family.type} | {told} | {family.documentation} |"


def _told_by_rank_0() -> Iterator[Metric]:
    checkpoint = CheckpointFacts(
        step=1,
        time="2026-01-01T00:00:00+00:00",
        path="",
        bytes=1,
        verified=True,
        has_rng=True,
        has_optimizer=True,
        layout="",
    )
    everything = Progress(
        attempt=1,
        step=1,
        total_steps=1,
        phase=TrainPhase.TRAIN,
        heartbeat=0.0,
        estimated_remaining_seconds=0.0,
        weight_version=1,
        checkpoint=checkpoint,
    )
    return families(everything, {}, 0.0)
