"""What is done to a volume, as the volume sees it: what `disk.py` records and fails, and `power_cut.py` replays."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Self


class Deed(StrEnum):
    """Calls that reach the volume."""

    MKDIR = "mkdir"
    RMDIR = "rmdir"
    CREATE = "create"
    UNLINK = "unlink"
    RENAME = "rename"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC_FILE = "fsync"
    SYNC_FOLDER = "fsyncdir"
    OPEN = "open"
    READ = "read"
    LIST = "readdir"

    @property
    def changes(self) -> bool:
        """Whether it leaves a trace on the disk."""
        return self not in {Deed.OPEN, Deed.READ, Deed.LIST}


@dataclass(frozen=True)
class Effect:
    """One call that succeeded. Paths begin with `/`, which is the volume's root."""

    deed: Deed
    path: str
    to: str = ""
    """New path of what is renamed."""
    offset: int = 0
    """Of what is written; of what is truncated, the new size."""
    data: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What the volume does from now on instead of working."""

    error: int = 0
    """The errno that is answered; 0 lets the call through, once nobody holds it."""
    deeds: tuple[str, ...] = tuple(deed for deed in Deed if deed.changes)
    path: str = "*"
    """Pattern of paths that are meant."""
    after: int = 0
    """So many of those calls still work."""
    times: int = 1_000_000
    """So many fail after that."""
    held: bool = False
    """They wait until another fault, or none, is set."""

    NAME = "user.fault"
    """The extended attribute of the volume's root that sets it."""

    def means(self, deed: Deed, path: str) -> bool:
        return deed in self.deeds and fnmatch(path, self.path)

    @property
    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, text: bytes) -> Self:
        told = json.loads(text)
        return cls(**told | {"deeds": tuple(told["deeds"])})


NO_FAULT = Fault(deeds=())


def read_record(file: Path) -> list[Effect]:
    """The effects so far, in their order."""
    with file.open("rb") as record:
        return list(_loaded(record.read()))


def _loaded(record: bytes) -> Iterator[Effect]:
    import io

    stream = io.BytesIO(record)
    while stream.tell() < len(record):
        yield pickle.load(stream)
