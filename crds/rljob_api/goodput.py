"""`status.goodput`: what the job's time went into. The trainer tells seconds, the operator adds what it cannot see."""

from __future__ import annotations

from enum import StrEnum

from .base import Record


class Use(StrEnum):
    """What time went into; all of it goes into one of these."""

    PRODUCTIVE = "productive"
    """Answers, rewards, updates and validation of steps that count."""
    RECOMPUTING = "recomputing"
    """The same for steps that had been finished before, and for steps that were begun and lost."""
    SAVING = "saving"
    """Checkpoints, samples, curves and the export, as far as training waits for them."""
    SYNCING = "syncing"
    """Giving servers new weights."""
    RESTARTING = "restarting"
    """Starting, the first time too: pods, the model, its conversion, the checkpoint; and stopping."""
    WAITING = "waiting"
    """For room in the cluster, for an image or a claim, and for rollout servers."""
    STALLED = "stalled"
    """Hangs, from the last sign of life on."""


class Seconds(Record):
    """Time by its use."""

    productive: float = 0.0
    """Of steps that count."""
    recomputing: float = 0.0
    """Of steps that had been finished before, or were begun and lost."""
    saving: float = 0.0
    """Saving, as far as training waits for it."""
    syncing: float = 0.0
    """Giving servers new weights."""
    restarting: float = 0.0
    """Starting and stopping."""
    waiting: float = 0.0
    """For room, an image, a claim or servers."""
    stalled: float = 0.0
    """Hanging."""
    in_hand: float = 0.0
    """In the step that is under way: it counts as productive, until it is lost."""
    regained: float = 0.0
    """Time of earlier attempts that went into groups which a later one used to finish the step: it was lost with them,
    and counts as productive after all. Not time of its own."""

    @property
    def total(self) -> float:
        return sum(self.by_use.values())

    @property
    def by_use(self) -> dict[Use, float]:
        """With the step in hand under what it is taken for."""
        found = {use: float(getattr(self, use.value)) for use in Use}
        found[Use.PRODUCTIVE] += self.in_hand
        return found


class Shares(Record):
    """Percent by use, with one decimal, as text; together exactly 100.0."""

    productive: str = "0.0"
    """Answers, rewards, updates and validation of steps that count."""
    recomputing: str = "0.0"
    """The same for steps that had been finished before, and for steps that were begun and lost."""
    saving: str = "0.0"
    """Checkpoints, samples, curves and the export, as far as training waits for them."""
    syncing: str = "0.0"
    """Giving servers new weights."""
    restarting: str = "0.0"
    """Starting, the first time too: pods, the model, its conversion, the checkpoint; and stopping."""
    waiting: str = "0.0"
    """For room in the cluster, for an image or a claim, and for rollout servers."""
    stalled: str = "0.0"
    """Hangs, from the last sign of life on."""


class Account(Record):
    """What the next pass adds to. Of constant size; nothing in it grows with the number of steps."""

    until: str
    """Time up to which everything is counted."""
    doing: Use | None = None
    """What goes on since then, as far as the trainer does not tell; absent while the job stands still."""
    gpus: int = 0
    """GPUs that pods of the job hold since then."""
    attempt: int = 0
    """Attempt whose trainer told last."""
    told: Seconds = Seconds()
    """What it had told by then."""
    closed: int = 0
    """Last attempt whose end is counted."""
    wall: Seconds = Seconds()
    """Seconds of the job."""
    gpu: Seconds = Seconds()
    """The same, times the GPUs that were held."""


class Goodput(Record):
    """What the job's time went into, suspensions aside."""

    percent: str = ""
    """Share of the time that was productive, in percent."""
    gpu_percent: str = ""
    """The same of GPU time; empty for a job without GPUs."""
    shares: Shares = Shares()
    """Of the time."""
    gpu_shares: Shares | None = None
    """Of GPU time."""
    account: Account | None = None
    """What the shares are made from."""
