"""How often progress alone is worth a write: each job now and then, all jobs together at a bounded rate."""

from __future__ import annotations

from rljob_api.status import Condition, ProgressStatus, Status

from ..queue import Key


class ProgressThrottle:
    def __init__(self, period_seconds: float, writes_per_second: float) -> None:
        self._period = period_seconds
        self._spacing = 1.0 / writes_per_second
        self._written: dict[Key, float] = {}
        self._free_at = 0.0
        """When the next write of any job may be."""

    def due(self, key: Key, now: float) -> float:
        """When the job's progress may be written; not later than `now` means at once."""
        return max(self._written.get(key, 0.0) + self._period, self._free_at)

    def wrote(self, key: Key, now: float) -> None:
        self._written[key] = now
        self._free_at = max(self._free_at, now) + self._spacing

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)


def only_progress(old: Status | None, new: Status) -> bool:
    """Whether nothing differs but how far the training is."""
    return old is not None and _without_progress(old) == _without_progress(new)


def _without_progress(status: Status) -> Status:
    return status.model_copy(
        update={
            "progress": ProgressStatus(phase=""),
            "goodput": None,
            "checkpoint": status.checkpoint.model_copy(update={"latest": None, "count": 0}),
            "rollout": status.rollout.model_copy(update={"weight_version": None}),
            "conditions": [_without_message(one) for one in status.conditions],
        }
    )


def _without_message(condition: Condition) -> Condition:
    return condition.model_copy(update={"message": ""})
