"""What vLLM's processes say. The pod's termination message when its engine fails is the engine's own error.

The server that waits for the engine ends with "See root cause above", which names nothing, and the lines above are
more than a kubelet keeps of a log. What only looks like an error is left out of the log.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rljob_api.progress import EXIT_CODES, Ending, LastWords
from rljob_trainer.checkpoint.durable import FULL
from rljob_trainer.words import MAX_BYTES, TERMINATION_LOG_ENV, fitted

ENGINE_LOGGER = "vllm.v1.engine.core"
"""Where vLLM logs, as an exception, what an engine fails of: at its start and later."""
SERVER_LOGGER = "vllm.v1.engine.async_llm"
"""Where the server logs that the engine is gone."""
RELOAD_LOGGER = "vllm.model_executor.model_loader.reload.layerwise"
"""Where vLLM logs of each push of weights."""
WEIGHTLESS = ("RotaryEmbedding", "ParallelLMHead")
"""Ends of the names of layers that are pushed nothing: positions are computed, and a tied head is the embedding."""


class LastWordsOfTheEngine(logging.Handler):
    """Leaves the first exception that is logged as the termination message."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = _error(record)
        if error is None or (self.path.exists() and self.path.stat().st_size):
            return
        said = " ".join(f"vLLM's engine failed: {type(error).__name__}: {error}".split())
        words = _of_a_full_volume(said) if _lacked_room(error) else said
        self.path.write_bytes(words.encode()[:MAX_BYTES])


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _lacked_room(error: BaseException | None) -> bool:
    """Whether a full volume is at the bottom of it: servers write what they compile there."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _of_a_full_volume(said: str) -> str:
    """As a trainer's pod tells it: the server is tried again, and not counted."""
    ending = Ending.VOLUME_UNUSABLE
    rank = int(os.environ.get("RLJOB_REPLICA", "0"))
    return fitted(
        LastWords(ending=ending, role="rollout", rank=rank, exit_code=EXIT_CODES[ending], message=said)
    )


def keep_last_words() -> None:
    """Called in every process of vLLM, possibly more than once. Does nothing outside a pod."""
    logger = logging.getLogger(ENGINE_LOGGER)
    path = os.environ.get(TERMINATION_LOG_ENV)
    if path and not any(isinstance(handler, LastWordsOfTheEngine) for handler in logger.handlers):
        logger.addHandler(LastWordsOfTheEngine(Path(path)))


def leave_out_false_alarms() -> None:
    """Called in every process of vLLM, possibly more than once."""
    logging.getLogger(SERVER_LOGGER).addFilter(_is_news)
    logging.getLogger(RELOAD_LOGGER).addFilter(_lacks_weights)


def _is_news(record: logging.LogRecord) -> bool:
    """The server ends its engine itself when it is told to go; of one that failed, what came before tells more."""
    return type(_error(record)).__name__ != "EngineDeadError"


def _lacks_weights(record: logging.LogRecord) -> bool:
    """What such a layer has stays as it is; the mismatch would tell of a head that is not tied."""
    return not record.getMessage().endswith(tuple(f"{name}: Failed to load weights" for name in WEIGHTLESS))
