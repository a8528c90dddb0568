"""The command line over an empty Python: how long one waits for `rljob --help` and `rljob validate`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench import REPOSITORY
from bench.result import Result, at_most
from bench.rounds import take_turns

LIMIT_SECONDS = 0.5


def measure(folder: Path) -> Result:
    rljob = str(Path(sys.executable).with_name("rljob"))
    commands = {
        "rljob --help": [rljob, "--help"],
        "rljob validate": [rljob, "validate", "examples/addition-cpu.yaml"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    seconds = take_turns({name: timed(command) for name, command in commands.items()})
    return Result(
        name="cli",
        checks=[
            at_most(f"seconds of `{name}`", median(seconds[name]), LIMIT_SECONDS)
            for name in list(commands)[:2]
        ],
        seconds=seconds,
        comment="Wall time of the whole process, files in the page cache. The way of `rljob run` to its first step"
        " is in `learning`.",
    )


def timed(command: list[str]) -> Callable[[], float]:
    def measure() -> float:
        started = time.monotonic()
        subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - started

    return measure
