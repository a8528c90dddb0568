"""`spec.failurePolicy`: when to restart, when to give up."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .base import BY_NAME, BY_NAME_SCHEMA, Spec


class Backoff(Spec):
    """Pause before a restart: doubles from `initial` to `max`, and starts over after a step has been finished."""

    initial: int = Field(10, ge=0, le=86_400)
    """Seconds before the first restart."""
    max: int = Field(300, ge=0, le=86_400)
    """Seconds at most."""


class RoleName(StrEnum):
    """The roles of a job."""

    TRAINER = "trainer"
    ROLLOUT = "rollout"


class FailureAction(StrEnum):
    """What a matching failure does."""

    FAIL_JOB = "FailJob"
    """The job fails at once."""
    RESTART = "Restart"
    """Restart, counted towards `maxRestarts`: what happens without a rule."""
    RESTART_AND_IGNORE_MAX_RESTARTS = "RestartAndIgnoreMaxRestarts"
    """Restart, without counting it."""


class ExitCodeOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"


class OnExitCodes(Spec):
    """Which exit codes a rule matches."""

    operator: ExitCodeOperator = ExitCodeOperator.IN
    """Whether the code must be in the list or must not be."""
    values: list[int] = Field(min_length=1, max_length=255)
    """Exit codes."""


class OnPodCondition(Spec):
    """A condition of the pod that ended, as in core/v1."""

    type: Literal["DisruptionTarget"]
    """`DisruptionTarget`: the cluster ended it (eviction, preemption, a drained or lost node)."""
    status: Literal["True", "False"] = "True"
    """Status that it must have."""


class FailureRule(Spec):
    """The first rule that matches a failure decides."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    """Name of the rule, shown in the status."""
    action: FailureAction
    """What a match does."""
    target_roles: list[RoleName] = Field([], max_length=2)
    """Roles that it looks at; empty means all."""
    on_exit_codes: OnExitCodes | None = None
    """Which exit codes match."""
    on_pod_conditions: list[OnPodCondition] = Field([], max_length=4)
    """Which conditions of the pod match, any of them."""


class FailurePolicy(Spec):
    """When to restart, when to give up. Trainers restart as a gang; a rollout server is replaced alone."""

    max_restarts: int = Field(3, ge=0, le=1_000_000)
    """Restarts of the trainer gang, or of one rollout server in a row, before a failure ends the job."""
    backoff_seconds: Backoff = Backoff()
    """Pause before a restart."""
    rules: Annotated[list[FailureRule], BY_NAME] = Field([], max_length=20, json_schema_extra=BY_NAME_SCHEMA)
    """Exceptions, the first match decides. Exit code 2 (a mistake in the job itself) always fails the job; a pod that
    the cluster ended (`DisruptionTarget`), or whose volume was full or failing (exit code 5), is restarted without
    being counted unless a rule says otherwise."""
