"""The command line over an empty Python: how long one waits for `rljob --help` and `rljob validate`."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import REPOSITORY
from bench.result import Result, at_most
from bench.rounds import ROUNDS, take_turns

LIMIT_SECONDS = 0.5


def measure(folder: Path) -> Result:
    rljob = str(Path(sys.executable).with_name("rljob"))
    commands = {
        "rljob --help": Timed([rljob, "--help"]),
        "rljob validate": Timed([rljob, "validate", "examples/addition-cpu.yaml"]),
        "python -c pass": Timed([sys.executable, "-c", "pass"]),
    }
    seconds = take_turns(commands)
    return Result(
        name="cli",
        checks=[
            at_most(f"seconds of `{name}`", median(seconds[name]), LIMIT_SECONDS)
            for name in list(commands)[:2]
        ],
        seconds=seconds,
        facts={
            f"processor seconds of `{name}`": round(median(command.processor[-ROUNDS:]), 3)
            for name, command in commands.items()
        },
        comment="Wall time of the whole process, files in the page cache. Where processor seconds"
        " are far below wall time, others kept the cores busy. The way of `make run` to its first step is in"
        " `firststep`.",
    )


@dataclass
class Timed:
    """A command, its wall time as it is called, and the processor time of each call, the warm-up included."""

    command: list[str]
    processor: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        before, started = processor_seconds(), time.monotonic()
        subprocess.run(self.command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True, timeout=60)
        wall = time.monotonic() - started
        self.processor.append(processor_seconds() - before)
        return wall


def processor_seconds() -> float:
    """Of all processes that were waited for, user and system."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
