"""Events reach the API server, or nobody waits for them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from rljob_api.base import Manifest
from rljob_api.reasons import Reason
from rljob_operator.cluster.client import ApiError
from rljob_operator.cluster.event_posts import KEPT_BACK, TRIES, EventPosts, cut, event
from rljob_operator.happenings import Happening
from rljob_operator.jobs import Stored, Told

from . import virtual_time
from .memory_api import MemoryApi
from .memory_client import Faults, MemoryClient
from .virtual_time import CLOCK

KEY = ("here", "demo")
JOB = Stored("1111-2222", 1, 1, False, Told("Training", 0, 0, 0, None), "{}")


def happening(note: str, time: str = "") -> Happening:
    return Happening("Warning", Reason.POD_FAILED, "Watch", note, time)


class Choosy(MemoryClient):
    """Answers each Event with its own error, as long as there is one."""

    def __init__(self, errors: dict[str, list[ApiError]]) -> None:
        super().__init__(MemoryApi(CLOCK.text), Faults())
        self.errors = errors
        self.silent = False
        """Nobody answers."""
        self.asked: list[str] = []

    async def send(self, method: str, path: str, body: Manifest | None = None, **more: object) -> Manifest:
        note = str((body or {})["message"])
        self.asked.append(note)
        if self.silent:
            await asyncio.Event().wait()
        if left := self.errors.get(note):
            raise left.pop(0)
        return {}


async def asked(seconds: float, **errors: list[ApiError]) -> list[str]:
    """The notes that were posted, in their order, within so much time; one more comes last."""
    client = Choosy(errors)
    posts = EventPosts(client, "we")
    running = asyncio.create_task(posts.run())
    posts.put(KEY, JOB, [happening(note) for note in (*errors, "last")])
    await asyncio.sleep(seconds)
    running.cancel()
    return client.asked


FAILED, REFUSED = ApiError(500, "InternalError", "by chance"), ApiError(422, "Invalid", "too long")
BUSY, THERE = ApiError(429, "TooManyRequests", "by chance", 30.0), ApiError(409, "AlreadyExists", "there")


@pytest.mark.usefixtures("virtual_time")
def test_one_that_fails_comes_again_after_the_others_and_not_for_ever() -> None:
    once = virtual_time.run(asked(1, failed=[FAILED], refused=[REFUSED], there=[THERE]))
    assert once == ["failed", "refused", "there", "last", "failed"]
    assert virtual_time.run(asked(29, busy=[BUSY])) == ["busy", "last"]
    assert virtual_time.run(asked(31, busy=[BUSY])) == ["busy", "last", "busy"]
    assert Counter(virtual_time.run(asked(1000, failed=[FAILED] * 100)))["failed"] == TRIES


async def drained(*notes: str, **errors: list[ApiError]) -> Choosy:
    """What was asked once an operator ended that was posting these: the first was under way."""
    client = Choosy(errors)
    client.silent = True
    posts = EventPosts(client, "we")
    running = asyncio.create_task(posts.run())
    posts.put(KEY, JOB, [happening(note) for note in notes])
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    client.silent = False
    await posts.drain(3.0)
    return client


@pytest.mark.usefixtures("virtual_time")
def test_what_is_left_at_the_end_is_posted_then() -> None:
    told = virtual_time.run(drained("under way", "waits", "fails", fails=[FAILED])).asked
    assert told == ["under way", "under way", "waits", "fails", "fails"]


@pytest.mark.usefixtures("virtual_time")
def test_nobody_waits_for_long_at_the_end_and_what_was_not_told_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    virtual_time.run(drained("busy", "told", busy=[BUSY]))
    assert "because this operator ends: PodFailed of here/demo: busy" in caplog.text
    assert "told" not in caplog.text


def test_an_event_too_many_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    posts = EventPosts(MemoryClient(MemoryApi(CLOCK.text), Faults()), "we")
    posts.put(KEY, JOB, [happening("waits")] * KEPT_BACK)
    assert not caplog.text
    posts.put(KEY, JOB, [happening("one too many")])
    assert "because 1000 wait: PodFailed of here/demo: one too many" in caplog.text


def test_a_note_is_cut_by_bytes_and_not_within_a_character() -> None:
    assert [cut("aé", limit) for limit in (0, 1, 2, 3)] == ["", "a", "a", "aé"]


def test_the_same_words_at_another_time_are_another_event() -> None:
    """A server that runs out of memory again, in the same attempt, is told of again."""
    names = {
        event(KEY, JOB, happening("OOMKilled", time), "we", now)["metadata"]["name"]
        for time, now in (("1", 1.0), ("1", 2.0), ("2", 3.0))
    }
    assert len(names) == 2
