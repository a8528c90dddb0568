"""`make run` in a fresh clone until its first step is done, set-up and model included; then it is stopped as by Ctrl-C.

uv's cache of packages is used as it is found: warm, where this environment was made on the same machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

from bench import REPOSITORY
from bench.result import Result, at_most
from rljob_api.status import Status
from waiting import until

LIMIT_SECONDS = 180.0
TIMES = 3
"""Not five: each writes the compiled files of a whole environment, more than a gigabyte."""
DEADLINE_SECONDS, STOP_SECONDS = 900.0, 120.0
OUTER = {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
"""What `make bench` and its Python leave in the environment."""


def measure(folder: Path) -> Result:
    packages = _packages()
    took = [_first_step(folder / str(number), packages) for number in range(TIMES)]
    return Result(
        name="firststep",
        checks=[
            at_most("seconds from `make run` in a fresh clone to its first step", median(took), LIMIT_SECONDS)
        ],
        seconds={"make run → first step": took},
        comment="The clone has no environment and finds no model: packages come from uv's warm cache, modules are"
        " compiled, the model is made. Other benchmarks start with all of it there.",
    )


def _packages() -> str:
    """uv's cache, or where it will be: uv is what `make` found or installed."""
    uv = shutil.which("uv") or str(REPOSITORY / ".venv-uv" / "bin" / "uv")
    told = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True, timeout=60)
    return told.stdout.strip()


def _first_step(folder: Path, packages: str) -> float:
    folder.mkdir()
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True, timeout=120)
    own = {"UV_CACHE_DIR": packages, "XDG_CACHE_HOME": str(folder / "cache")}
    env = {name: value for name, value in os.environ.items() if name not in OUTER} | own
    began = time.monotonic()
    with _running(clone, env, folder / "make.log") as make:
        until(lambda: _stepped(clone, make, folder / "make.log"), "a step is done", DEADLINE_SECONDS, 0.1)
        took = time.monotonic() - began
    shutil.rmtree(folder)
    return took


@contextmanager
def _running(clone: Path, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run"], cwd=clone, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield make
        os.killpg(make.pid, signal.SIGINT)  # a terminal tells all of them
        until(lambda: make.poll() is not None and not _left(make.pid), "it stops", STOP_SECONDS, 0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
        make.wait()


def _stepped(clone: Path, make: subprocess.Popen[bytes], log: Path) -> bool:
    assert make.poll() is None, log.read_text(errors="replace")[-3000:]
    for path in clone.glob("runs/*/status.json"):
        with suppress(ValueError):  # it is just being written
            return Status.model_validate_json(path.read_text()).progress.step >= 1
    return False


def _left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
