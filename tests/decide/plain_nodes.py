"""Scheduler and kubelets of the cluster of plain values: one step for one pod at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from builders import PLENTY, last_words
from rljob_api.failure import RoleName
from rljob_api.progress import Ending
from rljob_operator import names
from rljob_operator.observed import Pod, PodPhase

from .plain_cluster import PlainCluster

LEAVING = [(Ending.PREEMPTED, 143), (Ending.FAILED, 1), (Ending.FAILED, 137)]
"""How a pod ends that was told to go: it saved; it met a peer's closed connection; its grace was over."""
BLOWS = ("fails", "evicted", "gone")


@dataclass
class PlainNodes:
    cluster: PlainCluster
    haste: float
    """Chance that a trainer is through, or that a pod which was told to go has saved, when its kubelet looks."""
    room: int = PLENTY
    """Pods that find a node."""
    blows: tuple[str, ...] = BLOWS

    def tend(self, pod: Pod) -> None:
        """What a scheduler or a kubelet does next for it."""
        if not pod.node and not pod.ended:
            self._place(pod)
        elif pod.terminating:
            self._leave(pod)
        elif pod.phase is PodPhase.PENDING and self._is_mountable(pod):
            self._put(replace(pod, phase=PodPhase.RUNNING, ready=True, started_at=self.cluster.now))
        elif pod.phase is PodPhase.RUNNING and self._is_through(pod):
            self._end(pod, Ending.COMPLETE, 0)

    def _place(self, pod: Pod) -> None:
        placed = sum(bool(one.node) and not one.ended for one in self.cluster.pods)
        if placed < self.room:
            self._put(replace(pod, node="n", reason="", message=""))
        elif not pod.reason:
            self._put(replace(pod, reason="Unschedulable", message="0/1 nodes are available"))

    def _leave(self, pod: Pod) -> None:
        """In two turns: it says its last words, and goes."""
        if pod.phase is not PodPhase.RUNNING:
            self.cluster.change(pod.name, None)
        elif self.cluster.dice.random() < self.haste:
            self._end(pod, *self.cluster.dice.choice(LEAVING))

    def _is_mountable(self, pod: Pod) -> bool:
        return self.cluster.has(names.run_config_map(self.cluster.job.metadata.name, pod.attempt))

    def _is_through(self, pod: Pod) -> bool:
        """All of the pod's attempt: then it can be done."""
        gang = [one for one in self.cluster.pods if (one.role, one.attempt) == (pod.role, pod.attempt)]
        over = all(one.phase in (PodPhase.RUNNING, PodPhase.SUCCEEDED) for one in gang)
        if self.cluster.dice.random() > self.haste:
            return False
        return pod.role is RoleName.TRAINER and over and len(gang) == self.cluster.job.spec.trainer.num_nodes

    def strike(self, pod: Pod) -> None:
        """It fails, is evicted, or is gone with its node."""
        if not pod.node or pod.ended:
            return
        match self.cluster.dice.choice(self.blows):
            case "fails":
                self._end(pod, Ending.FAILED, 1)
            case "evicted":
                self._put(replace(pod, disrupted=True, terminating=True, gone_by=self.cluster.now + 30))
            case _:
                self.cluster.change(pod.name, None)

    def _end(self, pod: Pod, ending: Ending, exit_code: int) -> None:
        words = last_words(ending, exit_code=exit_code).model_copy(update={"role": pod.role.value})
        over: dict[str, Any] = {"phase": PodPhase.FAILED if exit_code else PodPhase.SUCCEEDED, "ready": False}
        told: dict[str, Any] = {"exit_code": exit_code, "last_words": words, "finished_at": self.cluster.now}
        self._put(replace(pod, **over, **told))

    def _put(self, pod: Pod) -> None:
        self.cluster.change(pod.name, pod)
