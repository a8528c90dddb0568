"""What safety costs in each step, and whether it grows.

Signs of life, the fence, notes, samples, the buffer of finished groups, verification.

The first four are done as the loop does them in a step, on a volume after some steps and on one after ten thousand. The
buffer is that of `kept`, with the shortest step that is kept; verification is the processor time of reading back a
checkpoint of `step`'s model, shared out over the steps between two saves. All of it together may take one percent of a
step, counted as if nothing of it were done beside the training; it is, the last two by threads of their own.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import kept
from bench.result import RESULTS, Result, at_most
from bench.rounds import ROUNDS, Seconds, ratio, take_turns, timed
from rljob_api.checkpoint import Checkpoint
from rljob_api.progress import TrainPhase
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.basis import Basis
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.past import StepNotes, read_past
from rljob_trainer.checkpoint.scrub import SlowReader
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.samples import write_samples
from rljob_trainer.stall.pulse import pulses
from trainer.checkpoints import VERSIONS, a_run, finish, layout

EARLY, STEPS = 250, 10_000
"""From `samples.KEEP_STEPS` on, the oldest samples make room for new ones."""
MEASURED = 200
"""Steps of each, in turns."""
SAMPLES, MICRO_BATCHES = 64, 8
LIMIT_PERCENT, LIMIT_GROWTH = 1.0, 1.25
"""Of a step; and an old volume over a new one."""
BYTES_PER_PARAMETER = 12
"""Of a checkpoint in float32: the weight and Adam's two moments."""
NEW, OLD = f"after {EARLY} steps", f"after {STEPS} steps"
BUFFER, VERIFICATION = "buffer of a step", "verification of a checkpoint"


@dataclass(frozen=True)
class Step:
    """What `step` measured."""

    seconds: float
    parameters: int

    @classmethod
    def measured(cls) -> Step:
        told = json.loads((RESULTS / "step.json").read_text())
        return cls(median(told["seconds"]["step"]), told["facts"]["parameters"])


def measure(folder: Path) -> Result:
    new, old = Volume(folder / "new"), Volume(folder / "old")
    for volume, steps in ((new, EARLY), (old, STEPS)):
        for _ in range(steps):
            volume.whole_step()
    step, period = Step.measured(), Checkpoint().save_period
    seconds = take_turns({NEW: new.whole_step, OLD: old.whole_step}, MEASURED)
    seconds |= beside(folder, step)
    resume = {count: _resumes(folder / f"resume-{count}", count) for count in (1, 100)}
    percent = {
        "signs of life, fence, notes, samples": 100 * median(seconds[OLD]) / step.seconds,
        "buffer": 100 * median(seconds[BUFFER]) / kept.STEP_SECONDS,
        "verification": 100 * median(seconds[VERIFICATION]) / (period * step.seconds),
    }
    return Result(
        "upkeep",
        [
            at_most("% of a step, all of it together", sum(percent.values()), LIMIT_PERCENT),
            at_most(f"{OLD} over {NEW}", ratio(seconds, OLD, NEW), LIMIT_GROWTH),
            at_most("bytes of /progress, likewise", old.told_bytes / new.told_bytes, LIMIT_GROWTH),
        ],
        seconds={**seconds, "a resume, attempt 1": [resume[1]], "a resume, attempt 100": [resume[100]]},
        facts={
            "steps": STEPS,
            "samples a step": SAMPLES,
            "seconds of the step": step.seconds,
            "steps between two saves": period,
            **{f"% of a step, {name}": round(value, 4) for name, value in percent.items()},
        },
        comment=" ".join((__doc__ or "").split()),
    )


def beside(folder: Path, step: Step) -> Seconds:
    """Processor seconds of what threads do beside the training."""
    groups, file, numbers = kept.some_groups(), folder / "checkpoint.bin", iter(range(1 + ROUNDS))
    file.write_bytes(bytes(BYTES_PER_PARAMETER * step.parameters))
    reader = SlowReader(1.0)  # pauses are no work
    return take_turns(
        {
            BUFFER: lambda: sum(kept.keep(kept.a_buffer(folder / f"buffer-{next(numbers)}", 1), groups)),
            VERIFICATION: lambda: timed(lambda: reader.sha256_of(file), time.thread_time),
        }
    )


SAMPLE = [
    Sample(
        Prompt(index=index, text="1+1=", token_ids=[1] * 8, answer="2"),
        number=0,
        token_ids=[2] * 128,
        logprobs=[-0.1] * 128,
        text="2" * 128,
        finish_reason="stop",
        weight_version=0,
    )
    for index in range(SAMPLES)
]


class Volume:
    """A job's directory, and the board of the attempt that writes to it."""

    def __init__(self, folder: Path) -> None:
        run = a_run(folder)
        self.storage, self.board = open_storage(run), ProgressBoard(run, pulse=pulses(1)[0])
        self.notes = StepNotes(self.storage, Basis.of(run.spec, layout(), VERSIONS), furthest=0)
        self.step = 0

    @property
    def told_bytes(self) -> int:
        return len(self.board.progress().model_dump_json(by_alias=True))

    def whole_step(self) -> float:
        """Seconds of what one step does beside its work."""
        self.step += 1
        began = time.perf_counter()
        self._signs_of_life()
        self.storage.check_fence()
        self.board.finish_step(self.step, {"step_seconds": 1.0, "loss": 0.1})
        self.notes.finished(self.step)
        write_samples(self.storage.root, self.step, SAMPLE, [1.0] * SAMPLES, [0.0] * SAMPLES)
        return time.perf_counter() - began

    def _signs_of_life(self) -> None:
        with self.board.phase(TrainPhase.GENERATE):
            for number in range(SAMPLES):
                self.board.tell(f"{number} of {SAMPLES} answers")
        with self.board.phase(TrainPhase.TRAIN):
            for _ in range(MICRO_BATCHES):
                self.board.alive()
        for phase in (TrainPhase.REWARD, TrainPhase.SYNC, TrainPhase.SAVE):
            with self.board.phase(phase):
                self.board.alive()


def _resumes(folder: Path, attempts: int) -> float:
    """Seconds that an attempt takes to open the volume after so many others."""
    for attempt in range(1, attempts + 1):
        finish(a_run(folder, attempt), attempt)
    return median(_opened(folder, attempts + number) for number in range(1, 10))


def _opened(folder: Path, attempt: int) -> float:
    began = time.perf_counter()
    read_past(open_storage(a_run(folder, attempt)))
    return time.perf_counter() - began
