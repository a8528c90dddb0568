"""What keeps a job from being as it is asked for, and what a person can do about it. Read by the gang's policy and by
the status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rljob_api.job import RLJob
from rljob_api.reasons import Reason

from ..observed import Observed, Pod, PodPhase, Refusal
from .decision import Decision, Goal
from .slow_start import claim_may_come, explanation, own_claim, slow, waits_for_claim

IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
VOLUME = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
"""Reasons of Events, see `cluster/event_reading.py`; the others are those of a container that waits."""
CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
FORBIDDEN = {
    "exceeded quota": Reason.QUOTA_EXCEEDED,
    "PriorityClass": Reason.PRIORITY_CLASS_MISSING,
    "RuntimeClass": Reason.RUNTIME_CLASS_MISSING,
    "error looking up service account": Reason.SERVICE_ACCOUNT_MISSING,
    "violates PodSecurity": Reason.POD_SECURITY,
}
"""Words of the API server's refusal."""
MISSING = {
    Reason.SECRET_MISSING: re.compile(r'secret "\S+" not found|in Secret \S+/|non-existent secret key'),
    Reason.CONFIG_MAP_MISSING: re.compile(r'configmap "\S+" not found|non-existent config key'),
}
"""Words of the kubelet, of volumes and of environment variables alike."""
NEXT_STEP = {
    Reason.QUOTA_EXCEEDED: "Free some quota, or ask for less; it is tried again.",
    Reason.PRIORITY_CLASS_MISSING: "Create it, or change template.spec.priorityClassName; it is tried again.",
    Reason.SERVICE_ACCOUNT_MISSING: "Create it, or change template.spec.serviceAccountName; it is tried again.",
    Reason.POD_SECURITY: "Ask the namespace's administrator which part of the template is allowed.",
    Reason.IMAGE_PULL_FAILED: "Check the image's name, and template.spec.imagePullSecrets for a private registry.",
    Reason.RUNTIME_CLASS_MISSING: "Create it, or change template.spec.runtimeClassName; it is tried again.",
    Reason.SECRET_MISSING: "Create it, or change what refers to it; the pod starts by itself then.",
    Reason.CONFIG_MAP_MISSING: "Create it, or change what refers to it; the pod starts by itself then.",
    Reason.VOLUME_NOT_MOUNTED: "Put right what the message names; the pod starts by itself then.",
    Reason.CONTAINER_CANNOT_START: "Create what is missing; the pod starts by itself then.",
    Reason.UNSCHEDULABLE: "It starts once there is room. It needs less with fewer GPUs or smaller resources, and fits "
    "on more nodes with another template.spec.nodeSelector, affinity or tolerations.",
    Reason.CLAIM_NOT_READY: "Create the claim, or the storage class that it asks for (kubectl describe pvc); the pod "
    "starts by itself then. Another storageClassName takes another claim: delete job and claim, and create it again.",
}
LASTING = frozenset(
    {
        Reason.SECRET_MISSING,
        Reason.CONFIG_MAP_MISSING,
        Reason.PRIORITY_CLASS_MISSING,
        Reason.RUNTIME_CLASS_MISSING,
        Reason.SERVICE_ACCOUNT_MISSING,
        Reason.POD_SECURITY,
        Reason.NAME_TAKEN,
        Reason.REFUSED,
    }
)
"""Those that somebody must put right: the job is not accepted as it is."""
OF_PODS = LASTING | NEXT_STEP.keys() | {Reason.UNSCHEDULABLE, Reason.SLOW_START, Reason.POD_WAITS}
"""All that can keep pods from running."""


@dataclass(frozen=True)
class Hindrance:
    reason: str
    """A `Reason`."""
    message: str
    """What is in the way, and the next step."""
    lasting: bool = False
    """It does not pass by itself: the job is not accepted as it is."""


def in_the_way(job: RLJob, observed: Observed, decision: Decision, now: float) -> Hindrance | None:
    """What is told to be in the way: what the cluster refused in this pass, else why the gang gave its pods back, else
    what pods wait for that are to run. Nothing of a job that needs no pods any more."""
    back = _given_back(job, decision)
    if observed.refusal is None and back:
        said = decision.message or (job.status.message if job.status else "")
        return Hindrance(back, said, back in LASTING)
    if observed.refusal is None and decision.goal not in (Goal.RUN, Goal.RESTART):
        return None
    return hindrance(job, observed, now)


def hindrance(job: RLJob, observed: Observed, now: float) -> Hindrance | None:
    """What the cluster refused, else why a pod waits, else why one takes long; None if nothing is in the way."""
    if observed.refusal is not None:
        return _refused(observed.refusal)
    waiting = [pod for pod in observed.pods if _is_to_start(pod)]
    told = [pod for pod in waiting if pod.message or pod.reason in IMAGE | CONTAINER]
    if stuck := [pod for pod in told if not claim_may_come(pod, now)]:
        return _stuck(job, stuck)
    late = slow(observed, now)
    return Hindrance(Reason.SLOW_START, explanation(job, late[0])) if late else None


def _is_to_start(pod: Pod) -> bool:
    """One that is evicted waits for nothing, also before it is told to go."""
    return pod.phase is PodPhase.PENDING and not pod.terminating and not pod.disrupted


def _given_back(job: RLJob, decision: Decision) -> str:
    """Why, while the gang waits for its next try and until that has begun; else empty."""
    attempt, back = job.attempt, decision.give_back
    reason = back.reason if back else attempt.given_back_reason if attempt else ""
    holds = decision.goal is Goal.WAIT or decision.reason == reason
    return reason if holds and reason in OF_PODS else ""


def unplaced(pod: Pod) -> bool:
    """The scheduler found no node for it."""
    return pod.phase is PodPhase.PENDING and pod.reason == Reason.UNSCHEDULABLE and not pod.node


def _refused(refusal: Refusal) -> Hindrance:
    """A pod's place in a quota comes free when others end; that of a claim or a Service does not."""
    if refusal.reason == Reason.CONTROL_SECRET_GONE:
        return Hindrance(Reason.CONTROL_SECRET_GONE, refusal.message)
    found = _with_next_step(
        _why_refused(refusal), f"The API server refuses {refusal.kind} {refusal.name}: {refusal.message}"
    )
    return replace(found, lasting=found.lasting or refusal.kind != "Pod")


def _why_refused(refusal: Refusal) -> Reason:
    if refusal.reason == "AlreadyExists":
        return Reason.NAME_TAKEN
    known = (reason for words, reason in FORBIDDEN.items() if words in refusal.message)
    return next(known, Reason.REFUSED)


def _stuck(job: RLJob, pods: list[Pod]) -> Hindrance:
    """The first whose cause has a name, else the first; and how many wait for the same."""
    first = min(pods, key=lambda pod: _why_stuck(pod) is Reason.POD_WAITS)
    reason = _why_stuck(first)
    alike = [pod for pod in pods if pod.role is first.role and pod.reason == first.reason]
    who = first.name if len(alike) == 1 else f"{len(alike)} {first.role.value} pods"
    verb = "waits" if len(alike) == 1 else "wait"
    said = first.message or first.reason
    if reason is Reason.CLAIM_NOT_READY:
        said, _, _ = said.partition(". ")  # the scheduler goes on about whom it could preempt
        said += f": {own_claim(job)}" if "unbound" in said else ""
    return _with_next_step(reason, f"{who} {verb}: {said}")


def _why_stuck(pod: Pod) -> Reason:
    if pod.reason in IMAGE:
        return Reason.IMAGE_PULL_FAILED
    for missing, words in MISSING.items():
        if words.search(pod.message):
            return missing
    if pod.reason in VOLUME:
        return Reason.VOLUME_NOT_MOUNTED
    if pod.reason in CONTAINER:
        return Reason.CONTAINER_CANNOT_START
    if waits_for_claim(pod):
        return Reason.CLAIM_NOT_READY
    return Reason.UNSCHEDULABLE if unplaced(pod) else Reason.POD_WAITS


def _with_next_step(reason: Reason, said: str) -> Hindrance:
    """One sentence, then the next."""
    step = NEXT_STEP.get(reason)
    return Hindrance(reason, f"{said.rstrip('. ')}. {step}" if step else said, reason in LASTING)
