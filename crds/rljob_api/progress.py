"""What rank 0 tells at `/progress`, and the last words of a pod in its termination message."""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator

from .base import Record, shortened
from .goodput import Seconds, Use
from .status import CheckpointFacts, Exactness

MESSAGE_LIMIT = 1024
"""Characters of a message that other programs can make as long as they like."""

Told = Annotated[str, AfterValidator(lambda text: shortened(text, MESSAGE_LIMIT))]
"""A text of a pod's, in which any image may run: the rest of a longer one is cut off."""

MOST_METRICS = 256


def _fewer(metrics: dict[str, float]) -> dict[str, float]:
    """So few, with names so short, that a status has room for them."""
    return {name[:256]: value for name, value in itertools.islice(metrics.items(), MOST_METRICS)}


class TrainPhase(StrEnum):
    """What the ranks are doing."""

    CONVERT = "Convert"
    """Making or fetching the model, and turning it into Megatron's format, before training starts."""
    PREPARE = "Prepare"
    """Making or fetching the model."""
    LOAD = "Load"
    """Loading the model and, on a resume, the checkpoint."""
    GENERATE = "Generate"
    REWARD = "Reward"
    TRAIN = "Train"
    WAIT = "Wait"
    """Waiting for `rollout.minReplicas` servers."""
    SYNC = "Sync"
    """Giving the rollout servers new weights."""
    EVALUATE = "Evaluate"
    SAVE = "Save"
    EXPORT = "Export"
    DONE = "Done"


SETTING_UP = (TrainPhase.CONVERT, TrainPhase.PREPARE, TrainPhase.LOAD)
"""Those before the loop."""

USES = {
    TrainPhase.CONVERT: Use.RESTARTING,
    TrainPhase.PREPARE: Use.RESTARTING,
    TrainPhase.LOAD: Use.RESTARTING,
    TrainPhase.WAIT: Use.WAITING,
    TrainPhase.SYNC: Use.SYNCING,
    TrainPhase.SAVE: Use.SAVING,
    TrainPhase.EXPORT: Use.SAVING,
    TrainPhase.DONE: Use.RESTARTING,
}
"""What the time of a phase goes into; the others are what training is for."""


def use_of(phase: TrainPhase) -> Use:
    """What the time of the phase goes into, if nothing of it is lost."""
    return USES.get(phase, Use.PRODUCTIVE)


class Resumed(Record):
    """What a restart restored."""

    from_step: int
    lost_steps: int | None = None
    exactness: Exactness
    reason: Told
    """A sentence: what was restored, and why not more."""
    kept_groups: int = 0
    """Groups of completions that attempts before had drawn, and this one uses."""

    @property
    def told(self) -> str:
        """All of it, in sentences."""
        if not self.kept_groups:
            return self.reason
        return (
            f"{self.reason} Of the rollouts after it, {self.kept_groups} finished groups were kept and used."
        )


class BrokenReplica(Record):
    """A rollout server that the trainer gave up on and wants replaced."""

    index: int
    since: str
    """When it last answered; a server that started later is not meant."""
    reason: Told


class Progress(Record):
    """The trainer now."""

    job_uid: Told = ""
    """Of the job that it trains: an address may have gone to another job's rank 0 meanwhile. Images from before this
    field leave it empty."""
    attempt: int
    step: int
    """Finished steps."""
    total_steps: int
    phase: TrainPhase
    heartbeat: float
    """Seconds since the epoch of the last sign of life inside the phase."""
    metrics: Annotated[dict[str, float], AfterValidator(_fewer)] = {}
    estimated_remaining_seconds: float | None = None
    weight_version: int | None = None
    transport: Told = ""
    checkpoint: CheckpointFacts | None = None
    checkpoint_count: int = 0
    save_seconds: float | None = None
    """How long the slowest save of this attempt took; absent before the first one."""
    skipped_checkpoints: list[Told] = []
    """Sentences on checkpoints that did not verify and were passed over."""
    save_failure: Told = ""
    """A sentence on the last save, if the volume refused it; training goes on."""
    resumed: Resumed | None = None
    broken_replicas: list[BrokenReplica] = []
    detail: Told = ""
    """What the phase is busy with, for people."""
    spent: Seconds | None = None
    """What the attempt's time went into so far."""


class Ending(StrEnum):
    """How a pod ended."""

    COMPLETE = "Complete"
    """All steps ran."""
    PREEMPTED = "Preempted"
    """It was told to go."""
    MISTAKE = "Mistake"
    """The job itself is wrong; a restart would not help."""
    UNMET = "Unmet"
    """It cannot go on as `resume` and `checkpoint.loadRng` ask; a person must choose."""
    VOLUME_UNUSABLE = "VolumeUnusable"
    """A volume is full or failing, so that it could not begin, or not end well; nothing is wrong with the job."""
    STALLED = "Stalled"
    """No rank showed a sign of life for longer than `spec.stall` allows; `hang` says more."""
    FAILED = "Failed"
    """Anything else."""


class Hang(Record):
    """Why the parent of the ranks ended them."""

    phase: TrainPhase
    step: int
    """Finished steps: it was the next one that hung."""
    seconds: float
    """Without a sign of life."""
    rank: int
    """The one that the others wait for."""
    frame: str = ""
    """Its innermost Python frame."""
    folder: str = ""
    """Where the stacks of all ranks are, below the job's directory on the volume; empty if it took nothing."""


class LastWords(Record):
    """One JSON line in the termination message, at most 4096 bytes."""

    ending: Ending
    role: str
    rank: int = 0
    attempt: int = 0
    exit_code: int = 0
    step: int | None = None
    saved_step: int | None = None
    """Step of the newest checkpoint that this pod's ranks completed."""
    message: str = ""
    """What the rank that failed first said last."""
    followed: bool = False
    """It failed only because a rank of another pod had."""
    progress: Progress | None = None
    """The last progress of rank 0, so that a finished job's status is whole."""
    hang: Hang | None = None
    """What hung, if that is how it ended."""


EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_MISTAKE = 2
"""The job itself is wrong (bad data, bad reward, no such model): a restart would not help."""
EXIT_UNMET = 3
"""A resume cannot be as `resume` and `checkpoint.loadRng` ask: no step was done, and a person must choose."""
EXIT_STALLED = 4
"""No rank showed a sign of life for longer than `spec.stall` allows."""
EXIT_VOLUME_UNUSABLE = 5
"""A volume is full or failing: the next attempt may find room."""
EXIT_KILLED = 137
"""By SIGKILL (128 + 9): nobody was left to say anything, so the end of the log is no reason."""
EXIT_PREEMPTED = 143
"""SIGTERM was obeyed (128 + 15), saved or not: the last words tell."""
EXIT_CODES = {
    Ending.COMPLETE: EXIT_COMPLETE,
    Ending.PREEMPTED: EXIT_PREEMPTED,
    Ending.MISTAKE: EXIT_MISTAKE,
    Ending.UNMET: EXIT_UNMET,
    Ending.VOLUME_UNUSABLE: EXIT_VOLUME_UNUSABLE,
    Ending.STALLED: EXIT_STALLED,
    Ending.FAILED: EXIT_FAILED,
}
"""Of a pod that ended so, and left words."""
