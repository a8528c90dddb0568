"""Log lines as JSON, one object a line; what is logged during a pass names the job."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import times
from .jobs import Stored
from .queue import Key

_about: ContextVar[dict[str, str | int]] = ContextVar("about")


@contextmanager
def about(key: Key, stored: Stored | None) -> Iterator[None]:
    """What is logged inside is about that job; of one that is gone the name is all that is known."""
    fields: dict[str, str | int] = {"namespace": key[0], "job": key[1]}
    if stored is not None:
        fields["uid"] = stored.uid
        if stored.attempt:
            fields["attempt"] = stored.attempt
    token = _about.set(fields)
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": times.to_micro_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get({}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up(level: str) -> None:
    """All of this process logs to stderr in this way; kopf only what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
