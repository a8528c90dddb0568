"""Which model this is: a hub id at a commit, or, for a directory, what is in it.

Reading hundreds of gigabytes before each start would cost minutes. So digests of files are remembered beside the
conversions, and hold for as long as size, time of change and inode of the file do.
"""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rljob_api.model import BUILTIN_MODELS, CONFIG, Model
from rljob_trainer.checkpoint.durable import dispensable, write_durably
from rljob_trainer.checkpoint.verify import sha256_of

THREADS = 8
SETTLED_NS = 2_000_000_000
"""A file that was changed so short a time ago may change again within one tick of its clock."""
SNAPSHOTS = "snapshots"
"""Folder of the hub's cache that holds a directory for each commit."""


@dataclass(frozen=True)
class Identity:
    label: str
    """For people, and the beginning of the name in the cache."""
    digest: str
    """Equal for equal weights and configuration."""


def identity_of(model: Model, directory: Path, memory: Path) -> Identity:
    """`directory` holds the weights of `model`; digests are remembered in the folder `memory`."""
    if directory.parent.name == SNAPSHOTS and not model.is_directory:
        return Identity(model.source.replace("/", "--"), f"{model.source}@{directory.name}")
    label = model.source.replace(":", "-") if model.source in BUILTIN_MODELS else "local"
    return Identity(label, _content(directory, memory))


def _content(directory: Path, memory: Path) -> str:
    note = memory / f"{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]}.json"
    known = _remembered(note)
    files = sorted(directory.glob("*.safetensors*"))
    facts = {file.name: _facts(file) for file in (directory / CONFIG, *files)}
    unknown = [name for name, now in facts.items() if known.get(name, [None])[0] != now]
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip(unknown, pool.map(sha256_of, (directory / name for name in unknown)), strict=True))
    found = {name: digests.get(name) or known[name][1] for name in facts}
    if unknown:
        _remember(note, facts, found)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _facts(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def _remembered(note: Path) -> dict[str, list[str]]:
    """Nothing where there is no note, or none that can be read: the files are, and then noted anew."""
    try:
        known: dict[str, list[str]] = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _remember(note: Path, facts: dict[str, str], found: dict[str, str]) -> None:
    """For the next start. A folder that takes nothing costs that one the reading."""
    settled = time.time_ns() - SETTLED_NS
    kept = {name: [now, found[name]] for name, now in facts.items() if int(now.split()[1]) < settled}
    with dispensable("Noting what the model's files hold"):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_durably(note, json.dumps(kept))
