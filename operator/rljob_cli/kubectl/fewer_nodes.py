"""A hint for a job whose trainers find no nodes: with how many fewer it could train as well. `status.py` shows it."""

from __future__ import annotations

from rljob_api.job import JobSpec
from rljob_api.reasons import Reason
from rljob_api.rules import broken_rules
from rljob_api.status import ConditionType, Status
from rljob_operator.status_reading import condition


def hint(spec: JobSpec, status: Status) -> str:
    """The most nodes below those asked for that all rules allow; empty if room is not what is missing."""
    if not _without_room(status):
        return ""
    for nodes in range(spec.trainer.num_nodes - 1, 0, -1):
        smaller = _with_nodes(spec, nodes)
        if not broken_rules(smaller):
            return (
                f"Fewer nodes: trainer.numNodes {nodes} (then data parallel is {smaller.data_parallel}); "
                "it can be changed while the job is suspended."
            )
    return ""


def _without_room(status: Status) -> bool:
    ready = condition(status, ConditionType.PODS_READY)
    lacking = (Reason.UNSCHEDULABLE, Reason.QUOTA_EXCEEDED)
    return ready is not None and ready.status == "False" and ready.reason in lacking


def _with_nodes(spec: JobSpec, nodes: int) -> JobSpec:
    return spec.model_copy(update={"trainer": spec.trainer.model_copy(update={"num_nodes": nodes})})
