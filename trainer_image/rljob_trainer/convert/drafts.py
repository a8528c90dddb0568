"""What makers of conversions have begun: alive or dead, and how somebody else can tell.

A lock answers that where it excludes. Some file systems have none, and some only between processes of one machine
(NFS with `nolock`, many FUSE mounts), which nobody is told. So a lock is believed for what this machine has begun;
anything else counts as dead once nothing has changed in it for long.
"""

from __future__ import annotations

import math
import os
import uuid
from contextlib import suppress
from pathlib import Path

from rljob_trainer.locks import Hold

ABANDONED_SECONDS = 900.0
"""A maker that lives writes every few seconds, unless its volume hangs; to be taken for dead costs it its work."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UNKNOWN = "0"


def new_draft(root: Path, name: str) -> Path:
    """A name that nobody else uses, for the entry `name`; says which machine began it."""
    return root / f".{name}.{_machine()}-{uuid.uuid4().hex[:8]}.tmp"


def drafts(root: Path) -> list[Path]:
    return sorted(root.glob(".*.tmp"))


def lock_of(draft: Path) -> Path:
    """Held by its maker."""
    return draft.with_name(f"{draft.name.rsplit('.', 2)[0]}.lock")


def is_dead(draft: Path, hold: Hold, now: float) -> bool:
    """Whether its maker is, as far as can be known when its lock gave `hold` at `now`, in the file system's time."""
    if hold is Hold.TAKEN:
        return False
    if hold is Hold.OURS and _begun_here(draft):
        return True
    return now - _last_change(draft) > ABANDONED_SECONDS


def time_at(path: Path) -> float:
    """What the clock of the file system at `path` says, which on NFS is not this machine's."""
    os.utime(path)
    return path.stat().st_mtime


def _begun_here(draft: Path) -> bool:
    here = _machine()
    return here != UNKNOWN and draft.name.rsplit(".", 2)[1].startswith(f"{here}-")


def _machine() -> str:
    """The same for all containers that share a kernel, and so its locks."""
    try:
        return BOOT_ID.read_text()[:8]
    except OSError:  # hidden by a sandbox
        return UNKNOWN


def _last_change(draft: Path) -> float:
    with suppress(FileNotFoundError):  # a maker that lives has just renamed something
        return max(path.stat().st_mtime for path in (draft, *draft.iterdir()))
    return math.inf
