"""What it costs to keep the finished groups of a step, and to have them back; against the shortest step that is kept.

Processor seconds of the thread that asks the servers and of the one that writes: the wall waits for neither the disk
nor, on a busy machine, for others.
"""

from __future__ import annotations

import random
import resource
import time
from functools import partial
from pathlib import Path
from statistics import median

from bench.result import Result, at_most
from bench.rounds import ROUNDS, Seconds, timed
from rljob_api.checkpoint import FinishedRollouts
from rljob_api.status import Exactness
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.rollout.group import Group
from rljob_trainer.rollout.kept import KeptRollouts, kept_rollouts
from trainer.checkpoints import VERSIONS, a_run

GROUPS, SAMPLES, TOKENS = 64, 16, 512
STEP_SECONDS = float(FinishedRollouts().after_seconds)
"""No shorter step keeps anything."""


def measure(folder: Path) -> Result:
    groups = some_groups()
    prompts = {group.key: group.samples[0].prompt for group in groups}
    seconds: Seconds = {"asking thread": [], "writing thread": [], "taking back": []}
    for number in range(1 + ROUNDS):
        storage = folder / str(number)
        ours, theirs = keep(a_buffer(storage, 1), groups)
        seconds["asking thread"].append(ours)
        seconds["writing thread"].append(theirs)
        step = a_buffer(storage, 2).step(LoopState())
        seconds["taking back"].append(timed(partial(step.take, prompts), time.thread_time))
        assert list(step.taken.values()) == groups
    seconds = {name: found[1:] for name, found in seconds.items()}  # the first round warms up
    size = sum(path.stat().st_size for path in (folder / "0" / "rollouts").iterdir())
    shares = {name: 100 * median(found) / STEP_SECONDS for name, found in seconds.items()}
    return Result(
        "kept",
        [
            at_most("% of the step that the asking thread works for it", shares["asking thread"], 0.1),
            at_most("% of the step that one core writes", shares["writing thread"], 1),
            at_most("% of the step that a restart takes to read it", shares["taking back"], 1),
        ],
        seconds=seconds,
        facts={
            "tokens": GROUPS * SAMPLES * TOKENS,
            "bytes per token": round(size / (GROUPS * SAMPLES * TOKENS), 2),
            "step seconds": STEP_SECONDS,
        },
        comment="Faster steps write nothing: that is what `afterSeconds` is for.",
    )


def some_groups() -> list[Group]:
    """Of a step."""
    return [a_group(number) for number in range(GROUPS)]


def a_group(number: int) -> Group:
    draw = random.Random(number)
    prompt = Prompt(number, "", [1, number], "")
    samples = [
        Sample(
            prompt,
            index,
            [draw.randrange(150_000) for _ in range(TOKENS)],
            [-draw.random() for _ in range(TOKENS)],
            "word " * TOKENS,
            "stop",
            0,
        )
        for index in range(SAMPLES)
    ]
    return Group(f"{number:064x}", samples, 1.0)


def a_buffer(storage: Path, attempt: int) -> KeptRollouts:
    run = a_run(storage, attempt, checkpoint={"finishedRollouts": {"afterSeconds": 0}})
    plan = ResumePlan(0, None, False, False, Exactness.EXACT, "")
    found = kept_rollouts(run, open_storage(run), VERSIONS, plan)
    assert found is not None
    return found


def keep(rollouts: KeptRollouts, groups: list[Group]) -> tuple[float, float]:
    """Processor seconds of the thread that asks, and of the one that writes with an fsync for each group."""
    step = rollouts.step(LoopState())
    before = process_seconds()

    def add() -> None:
        for group in groups:
            step.add(group)
            step.write_due()

    ours = timed(add, time.thread_time)
    rollouts.close()
    return ours, process_seconds() - before - ours


def process_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime
