"""How one pod's end is judged: exit code 2, `spec.failurePolicy.rules`, a full volume, preemption. Asked by both roles'
policies."""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from rljob_api.base import shortened
from rljob_api.failure import (
    ExitCodeOperator,
    FailureAction,
    FailurePolicy,
    FailureRule,
    OnExitCodes,
    RoleName,
)
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_KILLED, EXIT_MISTAKE, EXIT_PREEMPTED, MESSAGE_LIMIT, Ending
from rljob_api.reasons import Reason
from rljob_api.status import Failure

from .. import times
from ..observed import Pod


class Verdict(Enum):
    """What one pod's end means; its value is the reason that is told."""

    MISTAKE = Reason.MISTAKE
    RULE_FAILS_JOB = Reason.FAIL_JOB_RULE
    COUNTED = Reason.POD_FAILED
    IGNORED = Reason.POD_FAILED_IGNORED
    VOLUME_UNUSABLE = Reason.VOLUME_UNUSABLE
    PREEMPTED = Reason.PREEMPTED

    @property
    def reason(self) -> Reason:
        return Reason(self.value)

    @property
    def fatal(self) -> bool:
        return self in (Verdict.MISTAKE, Verdict.RULE_FAILS_JOB)


def verdict(policy: FailurePolicy, pod: Pod) -> Verdict:
    """Exit code 2 first, then the user's rules in their order, then a volume without room, then preemption."""
    if is_mistake(pod):
        return Verdict.MISTAKE
    rule = next((rule for rule in policy.rules if _matches(rule, pod)), None)
    if rule is not None:
        return _by_rule(rule.action)
    if lacks_volume(pod):
        return Verdict.VOLUME_UNUSABLE
    return Verdict.PREEMPTED if _is_preempted(pod) else Verdict.COUNTED


def is_mistake(pod: Pod) -> bool:
    return pod.exit_code == EXIT_MISTAKE or _said(pod, Ending.MISTAKE)


def is_unmet(pod: Pod) -> bool:
    """It looked at the checkpoint and cannot go on as exactly as the job asks. Its words decide: any program may exit
    with 3."""
    return _said(pod, Ending.UNMET)


def obeyed(pod: Pod) -> bool:
    """It was told to go, and went by itself, together with the ranks of other pods."""
    return pod.exit_code == EXIT_PREEMPTED or _said(pod, Ending.PREEMPTED)


def lacks_volume(pod: Pod) -> bool:
    """Its volume was full or failing. Its words decide, as above."""
    return _said(pod, Ending.VOLUME_UNUSABLE)


def is_lost(pod: Pod) -> bool:
    """The cluster took it away, and no kubelet saw its end: its time is when somebody cleared up after its node, long
    after the others had lost it."""
    return pod.disrupted and pod.exit_code is None


def first_to_end(pods: list[Pod]) -> Pod:
    """The one whose end explains the others'. Times are whole seconds: of several in one, those that the cluster
    took away come first, and those that we told to go after the first had ended come last. One that only followed
    another, and says so, may have ended before it: it explains more than one that says nothing."""
    spoke = any(pod.last_words and not pod.last_words.followed for pod in pods)
    candidates = [pod for pod in pods if not (spoke and pod.last_words and pod.last_words.followed)]
    return min(candidates, key=lambda pod: (int(pod.finished_at or 0), not pod.disrupted, pod.terminating))


def failure(job: RLJob, pod: Pod, now: float) -> Failure:
    """The pod's end as the status lists it. A server may have started in an attempt before the one it failed in."""
    ranks = _ranks(job, pod)
    return Failure(
        role=pod.role.value,
        rank=ranks[0],
        node=pod.index if len(ranks) > 1 else None,
        attempt=pod.attempt if pod.role is RoleName.TRAINER else job.attempt_number,
        exit_code=pod.exit_code,
        message=words(pod),
        time=times.to_text(pod.finished_at or now),
    )


def sentence(job: RLJob, pod: Pod) -> str:
    """For example: `trainer 9 ended with exit code 1: out of memory`. A trainer's number is its rank.

    A pod with several ranks that left no word is a node: `trainer node 1, ranks 8 to 15, ended …`. What failed before
    the trainer itself is named: `trainer 0, container convert, ended with exit code 1: …`.
    """
    code = "without an exit code" if pod.exit_code is None else f"with exit code {pod.exit_code}"
    said = words(pod)
    return f"{_who(job, pod)} ended {code}" + (f": {said}" if said else "")


def words(pod: Pod) -> str:
    """The pod's own explanation before that of the machine that ran it, of which, if it is a log, the last line."""
    if pod.last_words and pod.last_words.message:
        return pod.last_words.message
    lines = [line.strip() for line in pod.message.splitlines() if line.strip()]
    if lines:
        return shortened(lines[-1], MESSAGE_LIMIT)
    if pod.exit_code == EXIT_KILLED and pod.reason in ("", "Error"):
        return "it was ended by SIGKILL; the kernel does that when memory runs out"
    return pod.reason


def _who(job: RLJob, pod: Pod) -> str:
    ranks = _ranks(job, pod)
    closer = [f"ranks {ranks[0]} to {ranks[-1]}"] if len(ranks) > 1 else []
    closer += [f"container {pod.ended_in}"] if pod.ended_in else []
    return failure(job, pod, 0).who + "".join(f", {each}" for each in closer) + ("," if closer else "")


def _ranks(job: RLJob, pod: Pod) -> range:
    """Those of which one failed first; of a rollout server its index."""
    if pod.last_words:
        return range(pod.last_words.rank, pod.last_words.rank + 1)
    per_pod = job.spec.trainer.ranks_per_node if pod.role is RoleName.TRAINER else 1
    return range(pod.index * per_pod, (pod.index + 1) * per_pod)


def _by_rule(action: FailureAction) -> Verdict:
    match action:
        case FailureAction.FAIL_JOB:
            return Verdict.RULE_FAILS_JOB
        case FailureAction.RESTART:
            return Verdict.COUNTED
        case FailureAction.RESTART_AND_IGNORE_MAX_RESTARTS:
            return Verdict.IGNORED
        case _:
            assert_never(action)


def _matches(rule: FailureRule, pod: Pod) -> bool:
    if rule.target_roles and pod.role not in rule.target_roles:
        return False
    if rule.on_exit_codes is not None:
        return _code_matches(rule.on_exit_codes, pod.exit_code)
    return any((condition.status == "True") is pod.disrupted for condition in rule.on_pod_conditions)


def _code_matches(wanted: OnExitCodes, code: int | None) -> bool:
    listed = code in wanted.values
    return code is not None and listed is (wanted.operator is ExitCodeOperator.IN)


def _is_preempted(pod: Pod) -> bool:
    return pod.disrupted or obeyed(pod)


def _said(pod: Pod, ending: Ending) -> bool:
    return pod.last_words is not None and pod.last_words.ending is ending
