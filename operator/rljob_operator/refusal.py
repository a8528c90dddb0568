"""What is told of a job that no pass can look after: it passed the rules of the API server, but not those of the
models; or the operator itself fails at it."""

from __future__ import annotations

from pydantic import ValidationError

from rljob_api.base import shortened
from rljob_api.progress import MESSAGE_LIMIT
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Status

from .conditions import dated
from .status_reading import condition

ERROR_LIMIT = 500
"""Characters of an error of ours: what to do comes after it."""
UNTIL_MENDED = (
    "It tries again; until then what runs goes on, and nothing is started, restarted or stopped. Its log has the "
    "traceback: report that."
)


def refused(before: Status, generation: int, error: ValidationError, now: float) -> Status:
    """The status of a job that cannot be read: what was known stays, as of this generation.

    Equal to `before` if the job says so already.
    """
    message = shortened(_sentences(error), MESSAGE_LIMIT)
    told = (_mistaken(Reason.INVALID, message), *_others(before))
    return before.model_copy(
        update={
            "observed_generation": generation,
            "message": message,
            "conditions": [dated(before, one, generation, now) for one in told],
        }
    )


def given_up(before: Status, generation: int, error: Exception, now: float) -> Status:
    """The status of a job whose pass ended in an error of the operator's own, until one ends well.

    Nothing else changes, for the next pass goes by it: not even the message of a gang that gave its pods back, which
    says why. Equal to `before` if the job says so already.
    """
    words = shortened(" ".join(f"{type(error).__name__}: {error}".split()), ERROR_LIMIT).rstrip(":.")
    message = f"The operator failed at this job: {words}. {UNTIL_MENDED}"
    mistaken = dated(before, _mistaken(Reason.OPERATOR_ERROR, message), generation, now)
    keeps = before.attempt is not None and before.attempt.given_back_time
    return before.model_copy(
        update={
            "message": before.message if keeps else message,
            "conditions": [mistaken, *_others(before)],
        }
    )


def _mistaken(reason: Reason, message: str) -> Condition:
    return Condition(type=ConditionType.ACCEPTED, status="False", reason=reason, message=message)


def _others(before: Status) -> list[Condition]:
    return [one for one in before.conditions if one.type is not ConditionType.ACCEPTED]


def newly_refused(before: Status | None, after: Status) -> str:
    """Why the job is not accepted, if it did not say so before."""
    old, new = condition(before, ConditionType.ACCEPTED), condition(after, ConditionType.ACCEPTED)
    if new is None or new.status == "True" or (old is not None and old.message == new.message):
        return ""
    return new.message


def _sentences(error: ValidationError) -> str:
    """Each mistake with its place."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'spec'}: {one['msg']}" for one in error.errors())
