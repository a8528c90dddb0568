"""Questions that decisions ask of the status written before."""

from __future__ import annotations

from rljob_api.status import Condition, ConditionType, Status


def condition(status: Status | None, kind: ConditionType) -> Condition | None:
    """The condition of that type, if it was ever written."""
    return next((one for one in status.conditions if one.type is kind), None) if status else None


def is_true(status: Status | None, kind: ConditionType) -> bool:
    found = condition(status, kind)
    return found is not None and found.status == "True"
