"""What a hang leaves on the volume: `stalls/attempt-<n>-node-<k>/`, bounded in number and size.

The volume may be what hangs. So everything is gathered in the pod first, and a child that may be given up copies it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from .stacks import Stack

FOLDER = "stalls"
KEPT = 5
"""Folders of a node that stay, the newest."""
MAX_FILE_BYTES = 16 << 20
"""Of a file, NCCL's records included; two thousand collectives make about 2 MB."""
STORAGE_SECONDS = 10.0
"""A volume that has not taken it by then is taken to hang."""
POLL_SECONDS = 0.005


def write(folder: Path, stacks: Mapping[int, Stack], story: str) -> None:
    """One file for each rank and one that tells what happened, in the pod."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "story.txt").write_text(story + "\n", encoding="utf-8")
    for rank, stack in stacks.items():
        text = stack.text or f"rank {rank} did not answer; its process is in state {stack.state!r}\n"
        (folder / f"rank-{rank}.txt").write_text(text, encoding="utf-8")


def keep(folder: Path, storage: Path, attempt: int, node: int) -> str:
    """Copy `folder` to the volume; where it is below `storage`, empty if the volume did not take it."""
    place = f"{FOLDER}/attempt-{attempt}-node-{node}"
    copy = partial(_copy, folder, storage / place, f"attempt-*-node-{node}")
    taken = within(STORAGE_SECONDS, "What tells of the hang", copy)
    return place if taken else ""


def within(seconds: float, what: str, act: Callable[[], None]) -> bool:
    """Keep `what`, in words, by `act` in a child process, which is killed when it takes longer; whether it was done."""
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = 0
        except OSError as error:
            os.write(2, f"{what} could not be kept on the volume: {error}\n".encode())
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return False


def _copy(folder: Path, target: Path, siblings: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        with file.open("rb") as source:
            (target / file.name).write_bytes(source.read(MAX_FILE_BYTES))
    oldest_first = sorted(target.parent.glob(siblings), key=lambda path: path.stat().st_mtime)
    for path in oldest_first[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
