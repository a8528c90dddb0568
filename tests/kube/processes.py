"""Start the programs of a cluster, and wait for what they do."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

Command = list[str | Path]

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


class Failure(Exception):  # noqa: N818 - reads as a sentence
    """Something that had to happen did not; the message ends with the last words of who should have done it."""


def start(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """A process that ends with this one, however that ends. What it says goes to `log`.

    What runs between fork and exec is one system call, and no thread of ours holds a lock that it needs: hence noqa.
    """
    libc = ctypes.CDLL(None)
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGKILL),  # noqa: PLW1509
        )


@contextmanager
def running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with start(command, log) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing to save: its folder is thrown away


def run(*command: str | Path) -> str:
    """What a command says on stdout.

    Raises `Failure` with what it says on stderr when it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise Failure(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {said}")
    return done.stdout


def again_and_again(look: Callable[[], None], pause_s: float) -> None:
    """For as long as the process lives, also while the API server answers nothing, or only that it is not well."""
    while True:
        try:
            look()
        except (OSError, HTTPException, Failure) as error:
            print(f"tried again: {error}", flush=True)
        time.sleep(pause_s)


def wait_until(
    happens: Callable[[], bool], what: str, within_s: float, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Return once `happens`.

    Raises `Failure` when `process`, on which it depends, ends or the time is over.
    """
    deadline = time.monotonic() + within_s
    while not happens():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failure(f"{what}: not so after {within_s:.0f} s; last words:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
