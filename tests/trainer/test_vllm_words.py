"""What a vLLM server leaves as its pod's termination message when its engine fails."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from rljob_api.progress import Ending
from rljob_trainer.weights.vllm_words import (
    ENGINE_LOGGER,
    RELOAD_LOGGER,
    SERVER_LOGGER,
    LastWordsOfTheEngine,
    keep_last_words,
    leave_out_false_alarms,
)
from rljob_trainer.words import MAX_BYTES, TERMINATION_LOG_ENV, read_last_words


@pytest.fixture
def engine() -> Iterator[logging.Logger]:
    logger = logging.getLogger(ENGINE_LOGGER)
    yield logger
    for handler in list(logger.handlers):
        if isinstance(handler, LastWordsOfTheEngine):
            logger.removeHandler(handler)


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a kubelet mounts it: there, and empty."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setenv(TERMINATION_LOG_ENV, str(path))
    return path


def _fail(engine: logging.Logger, words: str) -> None:
    try:
        raise ValueError(words)
    except ValueError:
        engine.exception("EngineCore failed to start.")


def test_the_engines_own_error_becomes_the_termination_message(engine: logging.Logger, message: Path) -> None:
    keep_last_words()
    _fail(engine, "no room for\n  one request")
    assert message.read_text() == "vLLM's engine failed: ValueError: no room for one request"


def test_of_a_full_volume_it_tells_as_a_trainer_does(engine: logging.Logger, message: Path) -> None:
    keep_last_words()
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise RuntimeError("compilation failed") from full
    except RuntimeError:
        engine.exception("EngineCore failed to start.")
    words = read_last_words(message)
    assert words is not None
    assert (words.ending, words.role) == (Ending.VOLUME_UNUSABLE, "rollout")
    assert words.message == "vLLM's engine failed: RuntimeError: compilation failed"


def test_the_first_error_stays(engine: logging.Logger, message: Path) -> None:
    keep_last_words()
    keep_last_words()
    _fail(engine, "the cause")
    _fail(engine, "what followed")
    assert message.read_text().endswith("the cause")


def test_an_error_without_an_exception_is_no_last_word(engine: logging.Logger, message: Path) -> None:
    keep_last_words()
    engine.error("a request was refused")
    assert message.read_text() == ""


def test_a_long_error_is_cut(engine: logging.Logger, message: Path) -> None:
    keep_last_words()
    _fail(engine, "x" * 2 * MAX_BYTES)
    assert message.stat().st_size == MAX_BYTES


def test_outside_a_pod_nothing_listens(engine: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TERMINATION_LOG_ENV, raising=False)
    keep_last_words()
    assert not any(isinstance(handler, LastWordsOfTheEngine) for handler in engine.handlers)


@pytest.fixture
def no_false_alarms() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (SERVER_LOGGER, RELOAD_LOGGER)]
    before = [list(logger.filters) for logger in loggers]
    leave_out_false_alarms()
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


class EngineDeadError(Exception):
    """Called as vLLM's own, which takes seconds to import."""


@pytest.mark.parametrize(("error", "told"), [(EngineDeadError(), 0), (ValueError("unforeseen"), 1)])
def test_that_the_server_ended_its_engine_is_no_error(
    no_false_alarms: None, caplog: pytest.LogCaptureFixture, error: Exception, told: int
) -> None:
    try:
        raise error
    except Exception:
        logging.getLogger(SERVER_LOGGER).exception("AsyncLLM output_handler failed.")
    assert len(caplog.records) == told


@pytest.mark.parametrize(
    ("layer", "told"), [("Llama3RotaryEmbedding", 0), ("ParallelLMHead", 0), ("RMSNorm", 1)]
)
def test_a_layer_that_has_no_weights_lacks_none(
    no_false_alarms: None, caplog: pytest.LogCaptureFixture, layer: str, told: int
) -> None:
    logging.getLogger(RELOAD_LOGGER).warning("%s: Failed to load weights", layer)
    assert len(caplog.records) == told
