"""The pod's termination message when vLLM's engine fails: the engine's own error.

The server that waits for the engine ends with "See root cause above", which names nothing, and the lines above are
more than a kubelet keeps of a log.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rljob_trainer.words import MAX_BYTES, TERMINATION_LOG_ENV

ENGINE_LOGGER = "vllm.v1.engine.core"
"""Where vLLM logs, as an exception, what an engine fails of: at its start and later."""


class LastWordsOfTheEngine(logging.Handler):
    """Leaves the first exception that is logged as the termination message."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or (self.path.exists() and self.path.stat().st_size):
            return
        words = f"vLLM's engine failed: {type(error).__name__}: {error}"
        self.path.write_bytes(" ".join(words.split()).encode()[:MAX_BYTES])


def keep_last_words() -> None:
    """Called in every process of vLLM, possibly more than once. Does nothing outside a pod."""
    logger = logging.getLogger(ENGINE_LOGGER)
    path = os.environ.get(TERMINATION_LOG_ENV)
    if path and not any(isinstance(handler, LastWordsOfTheEngine) for handler in logger.handlers):
        logger.addHandler(LastWordsOfTheEngine(Path(path)))
