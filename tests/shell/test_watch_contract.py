"""What the operator builds on in a watch, asked of the real API server and of the one in memory alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from kube.api import Manifest
from rljob_operator.cluster.client import ApiError
from rljob_operator.cluster.resources import PODS

from .memory_api import MemoryApi
from .rooms import Room, version

Told = tuple[str, Manifest]


async def watched(room: Room, since: int, seconds: int = 30) -> AsyncIterator[Told]:
    """Kind and object of each event of the room's pods after that version."""
    params = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": str(since),
        "timeoutSeconds": str(seconds),
    }
    async with room.client() as client:
        async for line in client.lines(PODS.path(room.namespace), params):
            event = json.loads(line)
            yield event["type"], event["object"]


def told(room: Room, since: int, count: int, meanwhile: Callable[[], object] = lambda: None) -> list[Told]:
    """The first `count` events after that version; `meanwhile` happens after the first."""

    async def listen() -> list[Told]:
        heard: list[Told] = []
        async with aclosing(watched(room, since)) as events:  # type: ignore[type-var]  # a generator
            async for event in events:
                heard.append(event)
                if len(heard) == 1:
                    await asyncio.to_thread(meanwhile)
                if len(heard) == count:
                    break
        return heard

    return asyncio.run(listen())


def listed(room: Room) -> int:
    """The version of a list."""
    return version(room.api.get(PODS.path(room.namespace)).body)


def kinds(events: list[Told]) -> list[str]:
    return [f"{kind} {one['metadata']['name']}" for kind, one in events]


def test_a_watch_begins_where_a_list_ended(room: Room) -> None:
    room.pod("before", placed=False)
    since = listed(room)
    room.pod("after", placed=False)
    assert kinds(told(room, since, 1)) == ["ADDED after"]


def test_a_list_that_is_read_in_pages_is_of_one_moment(room: Room) -> None:
    for name in ("a", "b", "c"):
        room.pod(name, placed=False)

    async def pages() -> list[Manifest]:
        path, params = PODS.path(room.namespace), {"limit": "2"}
        async with room.client() as client:
            first = await client.send("GET", path, params=params)
            room.delete(PODS.path(room.namespace, "c"))
            room.pod("d", placed=False)
            token = first["metadata"]["continue"]
            return [first, await client.send("GET", path, params=params | {"continue": token})]

    first, last = asyncio.run(pages())
    assert [[one["metadata"]["name"] for one in page["items"]] for page in (first, last)] == [
        ["a", "b"],
        ["c"],
    ]
    assert version(first) == version(last)
    assert not last["metadata"].get("continue")


def test_a_watch_tells_what_happens_while_it_listens(room: Room) -> None:
    since = listed(room)
    room.pod("first", placed=False)
    events = told(room, since, 2, meanwhile=lambda: room.pod("second", placed=False))
    assert kinds(events) == ["ADDED first", "ADDED second"]


def test_versions_rise_and_a_watch_goes_on_after_any_of_them(room: Room) -> None:
    since = listed(room)
    for name in ("a", "b", "c"):
        room.pod(name, placed=False)
    first, *others = told(room, since, 3)
    versions = [version(one) for _, one in (first, *others)]
    assert versions == sorted(set(versions))
    assert kinds(told(room, versions[0], 2)) == kinds(others)


def test_a_pod_asked_to_go_is_told_of_and_its_end_is_a_newer_version(room: Room) -> None:
    room.pod()
    since, path = listed(room), PODS.path(room.namespace, "p")
    room.delete(path)
    room.delete(path, gracePeriodSeconds=0)
    events = told(room, since, 3)
    assert kinds(events) == ["MODIFIED p", "MODIFIED p", "DELETED p"]
    assert all("deletionTimestamp" in one["metadata"] for _, one in events)
    assert [one["metadata"]["deletionGracePeriodSeconds"] for _, one in events] == [9, 0, 0]
    versions = [since, *(version(one) for _, one in events)]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("placed", [True, False])
def test_a_pod_that_goes_at_once_is_first_seen_going(room: Room, placed: bool) -> None:
    pod = room.pod(placed=placed)
    room.delete(PODS.path(room.namespace, "p"), gracePeriodSeconds=0)
    events = told(room, version(pod), 2)
    assert kinds(events) == ["MODIFIED p", "DELETED p"]


def test_the_end_of_an_object_carries_its_last_state(room: Room) -> None:
    pod = room.pod(placed=False)
    room.delete(PODS.path(room.namespace, "p"))
    _, (_, last) = told(room, version(pod), 2)
    assert (last["metadata"]["uid"], last["spec"]) == (pod["metadata"]["uid"], pod["spec"])
    assert version(last) > version(pod)


def test_a_watch_that_nothing_happens_to_ends_without_an_error(room: Room) -> None:
    """It may say how far it got before; whoever goes on from there misses nothing."""
    since = listed(room)

    async def all_of_it() -> list[Told]:
        return [event async for event in watched(room, since, seconds=1)]

    marks = asyncio.run(all_of_it())
    assert {kind for kind, _ in marks} <= {"BOOKMARK"}
    reached = max([since, *(version(mark) for _, mark in marks)])
    room.pod("next", placed=False)
    assert kinds(told(room, reached, 1)) == ["ADDED next"]


def test_a_watch_from_long_ago_is_gone() -> None:
    """Of the one in memory alone: the real one forgets after minutes. `test_trouble.py` has it say so."""
    api = MemoryApi(lambda: "2026-01-01T00:00:00Z")
    api.compacted = 2

    async def first() -> None:
        async for _ in watched(Room(api, "contract"), since=1):
            return

    with pytest.raises(ApiError) as refused:
        asyncio.run(first())
    assert refused.value.code == 410
