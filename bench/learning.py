"""The example job through `rljob run`: what it learns, how long that takes, and what it learns without a lesson."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import REPOSITORY
from bench.memory import PeakMemory
from bench.result import Check, Facts, Result, at_least, at_most, within
from e2e.local_job import LocalJob
from rljob_api.base import Manifest

EXAMPLE = REPOSITORY / "examples" / "addition-cpu.yaml"
SHUFFLED = Path(__file__).with_name("shuffled.py")
RISE, MINUTES, FLAT = 0.3, 6.0, 0.1
FIRST_STEP_SECONDS = 180.0
DEADLINE_SECONDS = 900.0
CURVES = ("loss", "reward", "grad_norm", "mismatch_mean", "mismatch_max", "entropy", "val/accuracy")


@dataclass(frozen=True)
class Run:
    """What one run left behind."""

    first: float
    """Held-out accuracy before the first step."""
    last: float
    seconds: float
    """From the first step to the last evaluation."""
    seconds_to_first_step: float
    """From the command to the end of the first step."""
    curves: dict[str, dict[int, float]]
    memory_mib: dict[str, int]


def measure(folder: Path) -> Result:
    """Four runs; the first makes the model, the others find it in the cache."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    example = run(folder / "example", manifest())
    frozen = run(folder / "frozen", manifest({"learningRate": 0}))
    shuffled = run(
        folder / "shuffled", manifest(reward={"python": {"module": "shuffled", "function": "reward"}})
    )
    again = run(folder / "again", manifest())
    return Result(
        name="learning",
        checks=[
            at_least("held-out accuracy gained", example.last - example.first, RISE),
            at_most("minutes from the first step to the last evaluation", example.seconds / 60, MINUTES),
            within("gained with learning rate 0", frozen.last - frozen.first, FLAT),
            within("gained with shuffled rewards", shuffled.last - shuffled.first, FLAT),
            same_curves(example, again),
            at_most(
                "seconds from `rljob run` to the end of its first step, model made on the way",
                example.seconds_to_first_step,
                FIRST_STEP_SECONDS,
            ),
        ],
        facts=facts(example, frozen, shuffled),
        comment="`rljob run` on examples/addition-cpu.yaml: 2 trainer ranks, 2 vLLM servers. Accuracy is exact match"
        " at temperature 1 on all 2000 held-out sums. The controls change one thing each; shuffled means that"
        " every training sample gets the true reward of a sample of another prompt. Curves are those of loss, reward,"
        " gradient norm, mismatch (two), entropy and held-out accuracy; peak memory is VmHWM, shared pages counted in"
        " each process. With shuffled rewards chance decides every update: what keeps the model where it was is the KL"
        " penalty (without one, accuracy fell from 0.445 to 0.010).",
    )


def manifest(grpo: Manifest | None = None, **spec: Manifest) -> Manifest:
    """The example, with changes."""
    job: Manifest = YAML(typ="safe").load(EXAMPLE)
    job["spec"]["algorithm"]["grpo"] |= grpo or {}
    job["spec"] |= spec
    return job


def run(folder: Path, job: Manifest) -> Run:
    """One whole job. Raises `RuntimeError` with its words when it fails."""
    folder.mkdir()
    shutil.copy(SHUFFLED, folder)  # beside the job file, where `spec.reward.python` looks
    local = LocalJob(job, folder)
    started = time.time()
    memory = PeakMemory(local)
    try:
        watch(local.start(), memory)
    finally:
        local.kill()
    return seen(local, started, memory.mib)


def watch(local: LocalJob, memory: PeakMemory) -> None:
    process = local.process
    assert process is not None
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        memory.look()
        time.sleep(1)
    if process.poll() != 0:
        raise RuntimeError(f"rljob run came to {process.poll()}:\n{local.words()}")


def seen(local: LocalJob, started: float, memory_mib: dict[str, int]) -> Run:
    """From the event files."""
    events = EventAccumulator(str(local.storage / "tensorboard"))
    events.Reload()
    accuracy = events.Scalars("val/accuracy")
    return Run(
        first=accuracy[0].value,
        last=accuracy[-1].value,
        seconds=accuracy[-1].wall_time - accuracy[0].wall_time,
        seconds_to_first_step=events.Scalars("loss")[0].wall_time - started,
        curves={name: {event.step: event.value for event in events.Scalars(name)} for name in CURVES},
        memory_mib=memory_mib,
    )


def same_curves(one: Run, other: Run) -> Check:
    """Whether two runs of one seed agree bit for bit, at every step."""
    equal = [name for name in CURVES if one.curves[name] and one.curves[name] == other.curves[name]]
    what = f"curves that a second run repeats bit for bit, all {len(one.curves['loss'])} steps"
    return Check(what, len(equal), f"all {len(CURVES)}", len(equal) == len(CURVES))


def facts(example: Run, frozen: Run, shuffled: Run) -> Facts:
    runs = {"example": example, "learning_rate_0": frozen, "shuffled_rewards": shuffled}
    accuracy = {f"{name}_accuracy": f"{one.first:.3f} → {one.last:.3f}" for name, one in runs.items()}
    memory = {f"peak_mib_{kind}": mib for kind, mib in example.memory_mib.items()}
    return accuracy | {"seconds": round(example.seconds, 1), "steps": len(example.curves["loss"])} | memory
