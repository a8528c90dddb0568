"""Whether a checkpoint is whole: every file of its manifest present, with its size and checksum.

Serves the resume plan and `rljob checkpoint verify`. Files are streamed, several at a time: hashing frees
the GIL.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from rljob_api.manifest import MANIFEST_FILE, MANIFEST_FORMAT, CheckpointManifest, FileEntry

SEAL_FILE = f"{MANIFEST_FILE}.sha256"
"""Checksum of the manifest itself, in the format of sha256sum."""


class BrokenCheckpointError(Exception):
    """A checkpoint without a manifest that can be trusted; the message says why."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a checkpoint."""

    told: str
    unreadable: bool = False
    """The volume would not say what is in it: it may be whole, and readable later."""


def sha256_of(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(text: str) -> str:
    """Content of the seal for a manifest with this text."""
    return f"{hashlib.sha256(text.encode()).hexdigest()}  {MANIFEST_FILE}\n"


def read_manifest(checkpoint: Path) -> CheckpointManifest:
    """The manifest, its own checksum verified. Raises `BrokenCheckpointError`, or `OSError` if the volume fails."""
    try:
        text = (checkpoint / MANIFEST_FILE).read_bytes()
        sealed = (checkpoint / SEAL_FILE).read_bytes()
    except FileNotFoundError as error:
        raise BrokenCheckpointError(f"{Path(error.filename).name} is missing") from error
    if seal(text.decode(errors="replace")).encode() != sealed:
        raise BrokenCheckpointError(f"{MANIFEST_FILE} does not match its checksum in {SEAL_FILE}")
    try:
        manifest = CheckpointManifest.model_validate_json(text)
    except ValidationError as error:
        raise BrokenCheckpointError(
            f"{MANIFEST_FILE} is not a manifest: {error.errors()[0]['msg']}"
        ) from error
    if manifest.format > MANIFEST_FORMAT:
        raise BrokenCheckpointError(
            f"it has format {manifest.format} and this version reads up to {MANIFEST_FORMAT}: use a newer"
            f" image"
        )
    return manifest


def problem_of(checkpoint: Path) -> Problem | None:
    """What is wrong with a checkpoint, in a part of a sentence; None if it is whole."""
    found = problems(checkpoint)
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return replace(found[0], told=found[0].told + more)


def first_whole(
    steps: Iterable[int], why_not: Callable[[int], Problem | None]
) -> tuple[int | None, dict[int, Problem]]:
    """The first that nothing is wrong with, and what is with those before it."""
    wrong: dict[int, Problem] = {}
    for step in steps:
        problem = why_not(step)
        if problem is None:
            return step, wrong
        wrong[step] = problem
    return None, wrong


def verify(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint, a sentence each; empty means that it is whole."""
    return [problem.told for problem in problems(checkpoint)]


def problems(
    checkpoint: Path, digest: Callable[[Path], str] = sha256_of, threads: int | None = None
) -> list[Problem]:
    """As `verify`, with the kind of each; files are read by `digest`, several at a time unless told."""
    try:
        manifest = read_manifest(checkpoint)
    except BrokenCheckpointError as error:
        return [Problem(str(error))]
    except OSError as error:
        return [_unread(Path(error.filename or MANIFEST_FILE).name, error)]
    if checkpoint.name != f"step_{manifest.step}":
        return [Problem(f"the manifest says step {manifest.step}, the directory {checkpoint.name}")]
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(partial(_problem, checkpoint, digest), manifest.files)
    return [problem for problem in found if problem]


def _problem(checkpoint: Path, digest: Callable[[Path], str], entry: FileEntry) -> Problem | None:
    path = checkpoint / entry.path
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return Problem(f"{entry.path} has {size} bytes, the manifest says {entry.bytes}")
        if digest(path) != entry.sha256:
            return Problem(f"{entry.path} does not match its checksum")
    except OSError as error:
        return _unread(entry.path, error)
    return None


def _unread(name: str, error: OSError) -> Problem:
    lacking = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
    told = f"{name} cannot be read: {os.strerror(error.errno or 0)}"
    return Problem(told, unreadable=error.errno not in lacking)
