"""Pods that were told to go and did not: their node is silent, and it cannot be known whether they still run."""

from __future__ import annotations

from collections.abc import Sequence

from rljob_api.reasons import Reason

from ..observed import Pod
from .decision import Decision, Goal

OVERDUE_SECONDS = 30
"""A kubelet that is well is never that late."""


def waiting(goal: Goal, reason: str, message: str, pods: Sequence[Pod], now: float) -> Decision:
    """A decision for as long as `pods` live; once one that was told to go is overdue it says which node is silent."""
    if silent := lost(pods, now):
        return Decision(goal, Reason.NODE_LOST, _told(silent[0]))
    return Decision(goal, reason, message, wake_at=until_lost(pods, now))


def lost(pods: Sequence[Pod], now: float) -> list[Pod]:
    """Those that are overdue."""
    return [pod for due, pod in _going(pods) if due <= now]


def until_lost(pods: Sequence[Pod], now: float) -> float | None:
    """When the next one is."""
    return min((due for due, _ in _going(pods) if due > now), default=None)


def not_waited_for(pods: Sequence[Pod]) -> str:
    """What is told of lost pods at the end of a job. It stays, so it is true whatever becomes of them."""
    first, more = pods[0], len(pods) - 1
    others = f" (nor that of {more} more)" if more else ""
    return f"Node {_node(first)} was silent, so the end of {first.name} was not waited for{others}. {_next_step(first)}"


def _going(pods: Sequence[Pod]) -> list[tuple[float, Pod]]:
    """Those that were told to go and live, each with the time from which on it is overdue."""
    return [(pod.gone_by + OVERDUE_SECONDS, pod) for pod in pods if pod.gone_by is not None and not pod.ended]


def _told(pod: Pod) -> str:
    return f"Node {_node(pod)} is silent, so it cannot be known whether {pod.name} still runs there. {_next_step(pod)}"


def _next_step(pod: Pod) -> str:
    return (
        f"Bring it back; or, if it is gone for good, delete it (`kubectl delete node {_node(pod)}`) or taint it "
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute."
    )


def _node(pod: Pod) -> str:
    return pod.node or "its node"
