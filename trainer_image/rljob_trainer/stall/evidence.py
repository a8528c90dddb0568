"""What a hang leaves on the volume: `stalls/attempt-<n>-node-<k>/`, bounded in number and size.

The volume may be what hangs. So everything is gathered in the pod first, and a child that may be given up copies it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.fence import FencedError

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


def keep(folder: Path, storage: Storage, node: int) -> str:
    """Copy `folder` to the volume; where it is there, empty if the volume did not take it."""
    place = f"{FOLDER}/attempt-{storage.mine.attempt}-node-{node}"
    copy = partial(_copy, folder, storage, place, f"attempt-*-node-{node}")
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
        except (OSError, FencedError) as error:
            _say(f"{what} could not be kept on the volume: {error}")
        except Exception:
            traceback.print_exc()
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
    _say(f"{what} could not be kept: the volume did not answer in {seconds:g} s")
    return False


def _say(text: str) -> None:
    """Past Python's buffers, which a forked child shares."""
    os.write(2, f"{text}\n".encode())


def _copy(folder: Path, storage: Storage, place: str, siblings: str) -> None:
    """Raises `FencedError` if a newer attempt has taken the volume: the oldest folders may be what it left."""
    storage.check_newer()
    target = storage.root / place
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        with file.open("rb") as source:
            (target / file.name).write_bytes(source.read(MAX_FILE_BYTES))
    oldest_first = sorted(target.parent.glob(siblings), key=lambda path: path.stat().st_mtime)
    for path in oldest_first[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
