"""What is told of a job that passed the rules of the API server, but not those of the models."""

from __future__ import annotations

from pydantic import ValidationError

from rljob_api.base import shortened
from rljob_api.progress import MESSAGE_LIMIT
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Status

from .conditions import dated
from .status_reading import condition


def refused(before: Status, generation: int, error: ValidationError, now: float) -> Status:
    """The status of a job that cannot be read: what was known stays, as of this generation.

    Equal to `before` if the job says so already.
    """
    message = shortened(_sentences(error), MESSAGE_LIMIT)
    others = [one for one in before.conditions if one.type is not ConditionType.ACCEPTED]
    mistaken = Condition(type=ConditionType.ACCEPTED, status="False", reason=Reason.INVALID, message=message)
    return before.model_copy(
        update={
            "observed_generation": generation,
            "message": message,
            "conditions": [dated(before, one, generation, now) for one in (mistaken, *others)],
        }
    )


def newly_refused(before: Status | None, after: Status) -> str:
    """Why the job is not accepted, if it did not say so before."""
    old, new = condition(before, ConditionType.ACCEPTED), condition(after, ConditionType.ACCEPTED)
    if new is None or new.status == "True" or (old is not None and old.message == new.message):
        return ""
    return new.message


def _sentences(error: ValidationError) -> str:
    """Each mistake with its place."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'spec'}: {one['msg']}" for one in error.errors())
