"""Last words: one JSON line that a pod leaves in its termination message, and on the volume in case that gets lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rljob_api.progress import LastWords
from rljob_trainer.checkpoint.durable import write_durably

TERMINATION_LOG_ENV = "RLJOB_TERMINATION_LOG"
MAX_BYTES = 4096
"""What Kubernetes keeps of a termination message."""
ELLIPSIS = " […] "


def write_last_words(words: LastWords, storage: Path | None) -> None:
    """Leave them in the termination message and, given the job's directory, on the volume.

    The termination log is a mounted file, so it is written in place. A volume that refuses is said on
    stderr: the pod is ending anyway, and its words must not be replaced by that error.
    """
    text = fitted(words)
    if log := os.environ.get(TERMINATION_LOG_ENV):
        Path(log).write_text(text, encoding="utf-8")
    if storage is not None:
        folder = storage / "last_words"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(folder / f"{words.attempt}-{words.role}-{words.rank}.json", text)
        except OSError as error:
            sys.stderr.write(f"Last words could not be left in {folder}: {error.strerror}\n")


def write_report(words: LastWords, path: Path) -> None:
    """Leave a rank's words for the parent of the pod's ranks, unshortened."""
    path.write_text(words.model_dump_json(by_alias=True), encoding="utf-8")


def read_last_words(path: Path) -> LastWords | None:
    """What was left at `path`, None if nothing was."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return LastWords.model_validate_json(text) if text else None


def fitted(words: LastWords, limit: int = MAX_BYTES) -> str:
    """As one JSON line of at most `limit` bytes: the middle of the message goes first, then the progress."""
    text = words.model_dump_json(by_alias=True)
    if len(text.encode()) <= limit:
        return text
    for kept in (1024, 512, 256):
        shorter = words.model_copy(update={"message": _middle_out(words.message, kept)})
        text = shorter.model_dump_json(by_alias=True)
        if len(text.encode()) <= limit:
            return text
    return shorter.model_copy(update={"progress": None}).model_dump_json(by_alias=True)


def _middle_out(text: str, length: int) -> str:
    """Beginning and end of a text: what was done, and what it came to."""
    if len(text) <= length:
        return text
    half = (length - len(ELLIPSIS)) // 2
    return text[:half] + ELLIPSIS + text[-half:]
