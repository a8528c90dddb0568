"""What safety costs in each step, and whether it grows: signs of life, the fence, notes, samples, verification.

Each is done as the loop does it in a step, on a volume after some steps and on one after ten thousand. Of a
step whose length `step` has measured, all of it together may take one percent. The buffer of finished groups has a
measurement of its own, `kept`; reading checkpoints back takes a hundredth of the cores at most (`scrub.py`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

from bench.result import RESULTS, Result, at_most
from bench.rounds import ratio, take_turns
from rljob_api.progress import TrainPhase
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.samples import write_samples
from rljob_trainer.stall.pulse import pulses
from trainer.checkpoints import a_run

EARLY, STEPS = 250, 10_000
"""From `samples.KEEP_STEPS` on, the oldest samples make room for new ones."""
MEASURED = 200
"""Steps of each, in turns."""
SAMPLES, MICRO_BATCHES = 64, 8
LIMIT_PERCENT, LIMIT_GROWTH = 1.0, 1.25
"""Of a step; and an old volume over a new one."""


def measure(folder: Path) -> Result:
    new, old = Volume(folder / "new"), Volume(folder / "old")
    for volume, steps in ((new, EARLY), (old, STEPS)):
        for _ in range(steps):
            volume.whole_step()
    seconds = take_turns(
        {f"after {EARLY} steps": new.whole_step, f"after {STEPS} steps": old.whole_step}, MEASURED
    )
    resume = {count: _resumes(folder / f"resume-{count}", count) for count in (1, 100)}
    spent = median(seconds[f"after {STEPS} steps"])
    step_seconds = median(json.loads((RESULTS / "step.json").read_text())["seconds"]["step"])
    return Result(
        "upkeep",
        [
            at_most(
                "% of a step, all of it",
                100 * spent / step_seconds,
                LIMIT_PERCENT,
            ),
            at_most(
                f"after {STEPS} steps over after {EARLY}",
                ratio(seconds, f"after {STEPS} steps", f"after {EARLY} steps"),
                LIMIT_GROWTH,
            ),
            at_most("bytes of /progress, likewise", old.told_bytes / new.told_bytes, LIMIT_GROWTH),
        ],
        seconds={
            **seconds,
            "a resume, attempt 1": [resume[1]],
            "a resume, attempt 100": [resume[100]],
        },
        facts={"steps": STEPS, "samples a step": SAMPLES, "seconds of the step": step_seconds},
        comment=" ".join((__doc__ or "").split()),
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
        self.storage.note_step(self.step)
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
        open_storage(a_run(folder, attempt)).note_step(attempt)
    return median(_opened(folder, attempts + number) for number in range(1, 10))


def _opened(folder: Path, attempt: int) -> float:
    began = time.perf_counter()
    open_storage(a_run(folder, attempt)).step_before()
    return time.perf_counter() - began
