"""The status of a job that cannot be read: it passed the rules of the API server, but not those of the models."""

from __future__ import annotations

from pydantic import ValidationError

from rljob_api.base import Manifest
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Status

from . import times

MESSAGE_LIMIT = 1024


def refused(manifest: Manifest, error: ValidationError, now: float) -> Status | None:
    """None if the job says so already. What was known before stays."""
    before = Status.model_validate(manifest.get("status") or {})
    generation = int(manifest["metadata"].get("generation", 0))
    message = _sentences(error)[:MESSAGE_LIMIT]
    old = next((one for one in before.conditions if one.type is ConditionType.ACCEPTED), None)
    moved = old is None or old.status != "False"
    condition = Condition(
        type=ConditionType.ACCEPTED,
        status="False",
        reason=Reason.INVALID,
        message=message,
        last_transition_time=times.to_text(now) if old is None or moved else old.last_transition_time,
        observed_generation=generation,
    )
    others = [one for one in before.conditions if one.type is not ConditionType.ACCEPTED]
    new = before.model_copy(
        update={
            "observed_generation": generation,
            "message": message,
            "conditions": [condition, *others],
        }
    )
    return None if new == before else new


def _sentences(error: ValidationError) -> str:
    """Each mistake with its place."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'spec'}: {one['msg']}" for one in error.errors())
