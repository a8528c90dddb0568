"""Asks rank 0 of every job that trains for its `/progress`, by pod address, a bounded number at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from enum import Enum
from http import HTTPStatus
from typing import NoReturn

import aiohttp

from rljob_api.progress import SETTING_UP, Progress, TrainPhase

from .. import names
from ..queue import Key
from .told import read_progress

TIMEOUT_SECONDS = 3.0
AT_A_TIME = 32
POLLS_PER_SECOND = 200.0
"""Of all jobs together, which takes a tenth of a core: of more than a thousand each is asked less often."""
LONGEST_ANSWER = 2**20
"""Bytes: room for what 4096 servers that were given up on are told with, and no way to fill our memory."""

Leader = tuple[Key, str, str]
"""A job, its UID, and the address of its rank 0."""


class News(Enum):
    """What an answer says that the one before did not."""

    NONE = "none"
    """A sign of life at most."""
    ADVANCE = "advance"
    """The training is further on: that can wait."""
    TURN = "turn"
    """Something that is to be told or acted on at once."""


class Answers:
    """The newest answer of each job, and the job's UID: a namesake that follows it has told nothing yet."""

    def __init__(self) -> None:
        self._newest: dict[Key, tuple[str, Progress]] = {}
        self.since = time.time()
        """When listening began."""

    def get(self, key: Key, uid: str) -> Progress | None:
        told_by, progress = self._newest.get(key, ("", None))
        return progress if told_by == uid else None

    def put(self, key: Key, uid: str, progress: Progress) -> News:
        before, self._newest[key] = self.get(key, uid), (uid, progress)
        if before is None or _turn(before) != _turn(progress):
            return News.TURN
        same = before == progress.model_copy(update={"heartbeat": before.heartbeat})
        return News.NONE if same else News.ADVANCE

    def forget(self, key: Key) -> None:
        """The job is gone. An answer that was under way is news of a job that nobody knows: it leads here again."""
        self._newest.pop(key, None)


class Polling:
    """`leaders` says whom to ask; `heard` is called with each job that told something new.

    `period_seconds` lie between two questions to a job, or more if there are many.
    """

    def __init__(
        self,
        told: Answers,
        leaders: Callable[[], Iterable[Leader]],
        heard: Callable[[Key, News], None],
        period_seconds: float,
    ) -> None:
        self._told = told
        self._leaders = leaders
        self._heard = heard
        self._period = period_seconds
        self._slots = asyncio.Semaphore(AT_A_TIME)

    async def run(self) -> NoReturn:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,  # a short answer may come to gigabytes
        ) as session:
            while True:
                await self._round(session, list(self._leaders()))

    async def _round(self, session: aiohttp.ClientSession, leaders: list[Leader]) -> None:
        """Each once, evenly over the period: a burst would let everything else wait."""
        period = max(self._period, len(leaders) / POLLS_PER_SECOND)
        async with asyncio.TaskGroup() as asking:
            for leader in leaders:
                asking.create_task(self._ask(session, leader))
                await asyncio.sleep(period / len(leaders))
        if not leaders:
            await asyncio.sleep(period)

    async def _ask(self, session: aiohttp.ClientSession, leader: Leader) -> None:
        key, uid, address = leader
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{names.PROGRESS_PORT}{names.PROGRESS_URL_PATH}"
        async with self._slots:
            try:
                async with session.get(url, allow_redirects=False) as response:
                    answer = await _body(response)
            except (aiohttp.ClientError, TimeoutError):
                return  # not there yet, or busy: its probes tell which
        progress = read_progress(answer)
        if progress is None or not _is_of(uid, progress):
            return
        if (news := self._told.put(key, uid, progress)) is not News.NONE:
            self._heard(key, news)


def _is_of(uid: str, progress: Progress) -> bool:
    """Whether the job told it, and not one whose rank 0 got the address since. A trainer's image that is older than the
    field is believed."""
    return progress.job_uid in ("", uid)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Empty for an answer that is none of a trainer's: another code, or one without end."""
    body = b""
    while response.status == HTTPStatus.OK and len(body) <= LONGEST_ANSWER:
        chunk = await response.content.readany()
        if not chunk:
            return body
        body += chunk
    return b""


def _turn(progress: Progress) -> tuple[object, ...]:
    """What changes a few times in the life of an attempt."""
    phase = progress.phase if progress.phase in (*SETTING_UP, TrainPhase.DONE) else None
    news = (
        progress.resumed,
        progress.broken_replicas,
        progress.skipped_checkpoints,
        bool(progress.save_failure),
    )
    return progress.attempt, phase, *news
