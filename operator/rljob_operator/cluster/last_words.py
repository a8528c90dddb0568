"""A pod's termination message: last words as JSON, plain text, or the end of its log, as a kubelet reads them."""

from __future__ import annotations

import os
from pathlib import Path

from rljob_api.progress import EXIT_COMPLETE, EXIT_KILLED, LastWords

from .container import Container
from .told import read_last_words

MESSAGE_BYTES = 4096
LOG_BYTES = 2048
LOG_LINES = 80


def last_words(container: Container, exit_code: int) -> tuple[LastWords | None, str]:
    """The words, and the text beside them: one of the two is empty."""
    text = _head(container.termination_log)
    if text:
        return read_last_words(text)
    return None, "" if exit_code in (EXIT_COMPLETE, EXIT_KILLED) else tail(container.log)


def tail(log: Path) -> str:
    """As `FallbackToLogsOnError`: the last 2048 bytes or 80 lines, whichever is less."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_LINES:]).strip()


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MESSAGE_BYTES).decode(errors="replace").strip()
