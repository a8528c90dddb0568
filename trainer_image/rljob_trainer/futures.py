"""Work in a thread of its own, whose result is asked for later; the end of the process does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_thread(act: Callable[[], T], name: str) -> Future[T]:
    """Start `act`. What it raises is raised where the result is asked for."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # who does not wait any longer cannot stop it
    Thread(target=_resolve, args=(future, act), daemon=True, name=name).start()
    return future


def _resolve(future: Future[T], act: Callable[[], T]) -> None:
    try:
        future.set_result(act())
    except Exception as error:
        future.set_exception(error)
