"""A v1 Pod, as the API server gives it, turned into `observed.Pod`. Pure; called for each event of a pod."""

from __future__ import annotations

from collections.abc import Iterator

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.progress import EXIT_KILLED

from .. import names, times
from ..observed import Pod, PodPhase
from .told import read_last_words

QUIET = frozenset({"PodInitializing", "ContainerCreating", "Completed"})
"""Reasons that say no more than the phase does."""


def observed_pod(manifest: Manifest) -> Pod:
    """Raises `ValueError` or `KeyError` when the labels are not those of a job's pod."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    labels = metadata["labels"]
    ended = _terminated(status)
    words, text = read_last_words(ended.get("message", ""))
    reason, message = _explanation(status, ended)
    said = text if ended.get("exitCode") != EXIT_KILLED else ""  # else it is the end of its log
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        role=RoleName(labels[names.LABEL_ROLE]),
        index=int(labels[names.LABEL_INDEX]),
        attempt=int(labels[names.LABEL_ATTEMPT]),
        phase=_phase(status),
        ready=_condition(status, "Ready").get("status") == "True",
        created_at=_seconds(metadata.get("creationTimestamp")),
        started_at=_seconds(status.get("startTime")),
        finished_at=_finished_at(status, ended),
        initializing=_initializing(status),
        ended_in=_ended_in(status),
        exit_code=ended.get("exitCode"),
        last_words=words,
        message=said or message,
        reason=reason,
        node=manifest.get("spec", {}).get("nodeName", ""),
        disrupted=_condition(status, "DisruptionTarget").get("status") == "True",
        terminating="deletionTimestamp" in metadata,
        grace_seconds=manifest.get("spec", {}).get("terminationGracePeriodSeconds"),
        gone_by=_seconds(metadata.get("deletionTimestamp")),
    )


def pod_address(manifest: Manifest) -> str:
    """Empty until the pod has one."""
    return str(manifest.get("status", {}).get("podIP", ""))


def _phase(status: Manifest) -> PodPhase:
    """`Unknown`, of a node that is silent, is what it was before: running."""
    phase = status.get("phase") or PodPhase.PENDING.value
    return PodPhase.RUNNING if phase == "Unknown" else PodPhase(phase)


def _condition(status: Manifest, kind: str) -> Manifest:
    return next((one for one in status.get("conditions") or [] if one["type"] == kind), {})


def _states(status: Manifest, *kinds: str) -> Iterator[tuple[str, Manifest]]:
    """Name and state of each container, init containers first."""
    for kind in kinds or ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            yield container.get("name", ""), container.get("state", {})


def _ends(status: Manifest, *kinds: str) -> list[tuple[str, Manifest]]:
    return [(name, state["terminated"]) for name, state in _states(status, *kinds) if "terminated" in state]


def _terminated(status: Manifest) -> Manifest:
    """How the pod's program ended: of several containers the first that did not end well, else the last.

    An init container that ended well ended nothing.
    """
    bad = [end for _, end in _ends(status) if end.get("exitCode")]
    return next(iter(bad or [end for _, end in _ends(status, "containerStatuses")][-1:]), {})


def _finished_at(status: Manifest, ended: Manifest) -> float | None:
    """A pod that a kubelet refused has no container that ended: then the last that it dates."""
    if status.get("phase") not in ("Succeeded", "Failed") or ended.get("finishedAt"):
        return _seconds(ended.get("finishedAt"))
    dated = [one.get("lastTransitionTime") for one in status.get("conditions") or []]
    return _seconds(max(filter(None, [*dated, status.get("startTime")]), default=None))


def _initializing(status: Manifest) -> str:
    return next((name for name, state in _states(status, "initContainerStatuses") if "running" in state), "")


def _ended_in(status: Manifest) -> str:
    failed = (name for name, end in _ends(status, "initContainerStatuses") if end.get("exitCode"))
    return next(failed, "")


def _explanation(status: Manifest, ended: Manifest) -> tuple[str, str]:
    """Reason and message. What ended the pod explains more than what ended its container, and that more than a wait."""
    waits = [state["waiting"] for _, state in _states(status) if "waiting" in state]
    scheduled = _condition(status, "PodScheduled")
    unplaced = [scheduled] if scheduled.get("status") == "False" else []
    disrupted = _condition(status, "DisruptionTarget")
    whole = {"reason": status.get("reason"), "message": status.get("message")}
    for told in (whole, disrupted, ended, *waits, *unplaced):
        reason = told.get("reason") or ""
        if reason and reason not in QUIET:
            return reason, "" if told is ended else told.get("message") or ""
    return "", ""


def _seconds(text: str | None) -> float | None:
    return times.to_seconds(text) if text else None
