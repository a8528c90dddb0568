"""An operator that does not hear of jobs says that it is not ready, though it lives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import urllib.error
import urllib.request

import pytest
from kubernetes.aio.client import Configuration

from rljob_operator import handlers
from rljob_operator.handlers import EARLY_DEATHS, Shell
from rljob_operator.serving import serving

ADDRESS, PORT = "127.0.77.2", 18082


class DyingShell(Shell):
    """Its kopf dies so many times at once, as the real one does where the user has no name, and then lives."""

    def __init__(self, deaths: int) -> None:
        super().__init__(Configuration(), [])
        self.left = deaths
        self.lives = threading.Event()

    async def _operator(self, stop: threading.Event) -> None:
        if self.left > 0:
            self.left -= 1
            raise KeyError("getpwuid(): uid not found")
        self.lives.set()
        await asyncio.to_thread(stop.wait)


def answer(path: str) -> int:
    with contextlib.suppress(urllib.error.HTTPError):
        return int(urllib.request.urlopen(f"http://{ADDRESS}:{PORT}{path}", timeout=300).status)
    return 503


async def answers_after(deaths: int) -> tuple[int, int]:
    """Of /healthz and /readyz, after kopf died so often."""
    shell = DyingShell(deaths)
    async with serving(ADDRESS, PORT, lambda: shell.well):
        running = asyncio.create_task(shell.run(lambda kind, job: None))
        assert await asyncio.to_thread(shell.lives.wait, 60)
        answers = await asyncio.gather(*(asyncio.to_thread(answer, path) for path in ("/healthz", "/readyz")))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return answers[0], answers[1]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "FIRST_PAUSE_SECONDS", 0.01)


def test_one_early_death_is_forgiven_and_the_log_has_its_place(caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(answers_after(1)) == (200, 200)
    assert "in _operator" in caplog.text


def test_who_dies_again_and_again_lives_but_is_not_ready() -> None:
    assert asyncio.run(answers_after(EARLY_DEATHS)) == (200, 503)


def test_a_long_life_makes_early_deaths_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "SOUND_SECONDS", 0.0)
    assert asyncio.run(answers_after(EARLY_DEATHS)) == (200, 200)
