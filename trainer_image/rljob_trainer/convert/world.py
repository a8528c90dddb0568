"""The ranks of a conversion: forked, watched, and none outlives this. Nothing of training or vLLM is in their world.

They meet over a file and loopback. What they did so far stands in memory that the parent sees: so it can tell how far
they are, and which rank stopped where when nothing moves any more.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rljob_api.manifest import FileEntry
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.errors import Mistake

POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
JOINING = "joining the others"
CELL = struct.Struct("<q247sx")
"""Bytes done, and where the rank is, padded."""

Work = Callable[[Callable[[int, str], None]], list[FileEntry]]
"""What each rank does once all have met; it is given `tell(bytes, place)`, and returns what it has flushed."""


class ConversionError(Exception):
    """A rank failed, died or hangs; the message names it and where it was."""


@dataclass(frozen=True)
class Position:
    """How far a rank is."""

    bytes: int
    place: str


@dataclass
class Ranks:
    """Forked children, by process id."""

    living: dict[int, int]
    """Process id → rank."""
    board: mmap.mmap
    reports: Path
    entries: list[FileEntry] = field(default_factory=list)

    def position(self, rank: int) -> Position:
        done, place = CELL.unpack_from(self.board, rank * CELL.size)
        return Position(done, place.rstrip(b"\0").decode())

    def kill(self) -> None:
        for pid in self.living:
            os.kill(pid, signal.SIGKILL)
        for pid in self.living:
            os.waitpid(pid, 0)
        self.living.clear()


def run_world(
    world: int,
    work: Work,
    told: Callable[[int], None],
    *,
    timeout: timedelta | None = None,
    stall: timedelta,
) -> list[FileEntry]:
    """`work` on all of `world` forked ranks of a fresh process group; what they flushed, together.

    `told` hears the bytes done so far, several times a second. `timeout` is how long a rank waits for the others in a
    collective; None is torch's default. Without a byte moved by any rank for `stall` it is a hang.

    Raises what a rank raised, if it is a sentence for users, else `ConversionError`; then, and when the caller is
    interrupted, no rank is left.
    """
    reports = Path(tempfile.mkdtemp(prefix="rljob-convert-"))
    ranks = Ranks({}, mmap.mmap(-1, world * CELL.size), reports)
    try:
        for rank in range(world):
            ranks.living[_fork(rank, world, ranks, work, timeout)] = rank
        _watch(ranks, world, told, stall)
        return ranks.entries
    finally:
        ranks.kill()
        shutil.rmtree(reports, ignore_errors=True)


def _watch(ranks: Ranks, world: int, told: Callable[[int], None], stall: timedelta) -> None:
    """Until all ranks are done, one failed, or none moves."""
    moved, seen = time.monotonic(), [Position(-1, "")] * world
    while ranks.living:
        _reap(ranks)
        now = [ranks.position(rank) for rank in range(world)]
        if now != seen:
            moved, seen = time.monotonic(), now
            told(sum(position.bytes for position in now))
        elif time.monotonic() - moved > stall.total_seconds():
            raise ConversionError(_hanging(ranks, stall))
        time.sleep(POLL_SECONDS)


def _reap(ranks: Ranks) -> None:
    """Those that were killed are heard first: the others may have failed for want of them."""
    ended: dict[int, int] = {}
    for pid, rank in list(ranks.living.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            del ranks.living[pid]
            ended[rank] = os.waitstatus_to_exitcode(status)
    for rank, code in sorted(ended.items(), key=lambda one: one[1]):
        _hear(ranks, rank, code)


def _hear(ranks: Ranks, rank: int, code: int) -> None:
    """What a rank that ended left behind. Raises what went wrong."""
    report = ranks.reports / f"{rank}.json"
    said = json.loads(report.read_text()) if report.exists() else {}
    match said.get("kind"):
        case "done" if code == 0:
            ranks.entries += [FileEntry.model_validate(one) for one in said["entries"]]
        case "mistake":
            raise Mistake(said["message"])
        case "storage":
            raise StorageError(said["message"])
        case "failed":
            raise ConversionError(f"rank {rank} of the conversion failed: {said['message']}")
        case _:
            raise ConversionError(_silent_end(rank, code, ranks.position(rank)))


def _silent_end(rank: int, code: int, position: Position) -> str:
    if code >= 0:
        how = f"exited with code {code} and left no message"
    else:
        killed = signal.Signals(-code).name
        hint = "; the kernel does that when memory runs out" if killed == "SIGKILL" else ""
        how = f"was ended by {killed}{hint}"
    return f"rank {rank} of the conversion {how} (it was at: {position.place})"


def _hanging(ranks: Ranks, stall: timedelta) -> str:
    stuck = "; ".join(f"rank {rank}: {ranks.position(rank).place}" for rank in ranks.living.values())
    return f"the conversion has not moved for {stall.total_seconds():g} s, and was ended. It hangs at {stuck}"


def _fork(rank: int, world: int, ranks: Ranks, work: Work, timeout: timedelta | None) -> int:
    parent = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        _die_with(parent)
        said = _said(rank, world, ranks, work, timeout)
        (ranks.reports / f"{rank}.tmp").write_text(json.dumps(said))
        (ranks.reports / f"{rank}.tmp").rename(ranks.reports / f"{rank}.json")
        code = 0 if said["kind"] == "done" else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """The lock on the conversion is inherited: a rank must not hold it longer than its parent lives."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _said(rank: int, world: int, ranks: Ranks, work: Work, timeout: timedelta | None) -> dict[str, object]:
    """The rank's report."""
    done = 0

    def tell(size: int, place: str) -> None:
        nonlocal done
        done += size
        CELL.pack_into(ranks.board, rank * CELL.size, done, place.encode()[:247])

    try:
        tell(0, JOINING)
        _join(rank, world, ranks.reports / "meet", timeout)
        entries = work(tell)
    except Mistake as mistake:
        return {"kind": "mistake", "message": str(mistake)}
    except StorageError as error:
        return {"kind": "storage", "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"kind": "failed", "message": f"{type(error).__name__}: {error}"}
    return {"kind": "done", "entries": [entry.model_dump(mode="json") for entry in entries]}


def _join(rank: int, world: int, meeting: Path, timeout: timedelta | None) -> None:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = FileStore(str(meeting), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
