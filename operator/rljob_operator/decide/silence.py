"""Pods that were told to go and did not: their node is silent, and it cannot be known whether they still run."""

from __future__ import annotations

from collections.abc import Iterable

from rljob_api.reasons import Reason

from ..observed import Pod
from .decision import Decision, Goal

OVERDUE_SECONDS = 30
"""A kubelet that is well is never that late."""


def waiting(goal: Goal, reason: str, message: str, pods: Iterable[Pod], now: float) -> Decision:
    """A decision for as long as `pods` live; once one that was told to go is overdue it says which node is silent."""
    going = [
        (pod.gone_by + OVERDUE_SECONDS, pod) for pod in pods if pod.gone_by is not None and not pod.ended
    ]
    silent = [pod for due, pod in going if due <= now]
    if silent:
        return Decision(goal, Reason.NODE_LOST, _lost(silent))
    return Decision(goal, reason, message, wake_at=min((due for due, _ in going), default=None))


def _lost(pods: list[Pod]) -> str:
    node = pods[0].node or "its node"
    return (
        f"Node {node} is silent, so it cannot be known whether {pods[0].name} still runs there. Bring it back; or, if "
        f"it is gone for good, delete it (`kubectl delete node {node}`) or taint it "
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute."
    )
