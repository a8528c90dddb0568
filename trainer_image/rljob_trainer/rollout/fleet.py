"""All rollout servers, as rank 0 sees them: who is there, who holds which weights, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, TypeVar

import aiohttp

from rljob_api.algorithm import Sampling
from rljob_api.manifest import Versions
from rljob_api.progress import BrokenReplica, TrainPhase
from rljob_api.run import Run
from rljob_api.status import Exactness
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.rollout.answers import check_length
from rljob_trainer.rollout.background import Background
from rljob_trainer.rollout.client import Client, Seen
from rljob_trainer.rollout.dispatch import Dispatch, Question
from rljob_trainer.rollout.group import Group
from rljob_trainer.rollout.guard import control_token
from rljob_trainer.rollout.kept import KeptStep
from rljob_trainer.rollout.likeness import Likeness
from rljob_trainer.rollout.newcomers import Newcomers
from rljob_trainer.rollout.patience import Patience
from rljob_trainer.rollout.resolver import LastKnown
from rljob_trainer.rollout.roster import Roster
from rljob_trainer.stall.limits import Limits

T = TypeVar("T")
Poll = Callable[[], None]
Tell = Callable[[str], None]
Waiting = Callable[[], AbstractContextManager[object]]

IDLE_SECONDS = 2.0
"""Idle connections are closed after this, before vLLM does (5 s): it would race with the next request."""

LOOK_SECONDS = 0.25
"""Pause between two looks for servers."""

LOOKS_PER_FENCE = 20
"""Of these looks, one also asks the volume whether a newer attempt has it: every five seconds."""


class ServersLostError(Exception):
    """No server with the right weights is left: push weights, then ask again; what was answered is kept."""


def wire_version(attempt: int, step: int) -> str:
    """How weights are called inside vLLM: two attempts never mean the same by the same name."""
    return f"{attempt}.{step}"


class Fleet:
    """Rank 0's one way to the rollout servers. Synchronous outside; not for several threads at once."""

    def __init__(
        self,
        run: Run,
        tell: Tell = lambda _: None,
        waiting: Waiting = nullcontext,
        check_fence: Poll = lambda: None,
    ) -> None:
        """`waiting` is entered while too few servers are up, and `check_fence` called now and then: the servers may be
        a newer attempt's by then, which this one cannot see if it is cut off from them."""
        self.min_replicas = run.spec.rollout.min_replicas
        self.replicas = run.spec.rollout.replicas
        self.max_num_seqs = run.spec.rollout.vllm.max_num_seqs
        self.likeness = Likeness(exact=run.spec.resume.exactness is Exactness.EXACT)
        self._attempt = run.attempt
        self._tell = tell
        self._waiting = waiting
        self._check_fence = check_fence
        self._background = Background()
        self._session = self._background.submit(_session()).result()
        self._port = run.rollout_port
        self._newcomers = Newcomers(run.rollout_hosts, run.rollout_host)
        self._roster = Roster([self._client(index, host) for index, host in enumerate(run.rollout_hosts)])
        self._max_model_len: int | None = None
        self._kept: dict[str, list[Sample]] = {}
        self._kept_version = ""
        self._limits = Limits(run.spec.stall.phase_timeout_seconds)
        self._open = 0

    @property
    def broken(self) -> list[BrokenReplica]:
        """Servers that were given up on and want to be replaced."""
        return self._roster.broken

    def give_up(self, server: Seen, reason: str) -> None:
        """Use this server no more; the one that replaces it is welcome."""
        self._roster.give_up(server, reason)

    def look(self, poll: Poll = lambda: None) -> list[Seen]:
        """Servers that answer now and were not given up on, by index."""
        return self.run(self._look(), poll)

    def wait_until_up(self, poll: Poll) -> list[Seen]:
        """Servers that answer, once there are `minReplicas` of them; tells what it waits for.

        Raises `Unmet` if they compute unlike each other where `resume.exactness` is `Exact`, and what `check_fence`
        raises.
        """
        servers = self.look(poll)
        if len(servers) < self.min_replicas:
            with self._waiting():
                servers = self._wait(servers, poll)
        self.likeness.meet(servers)
        return servers

    def beside(self, versions: Versions, poll: Poll) -> Versions:
        """`versions` of ranks with those of the servers, once enough of these are up; raises as `wait_until_up`."""
        self.wait_until_up(poll)
        return self.likeness.beside(versions)

    def generate(
        self,
        prompts: list[Prompt],
        n: int,
        sampling: Sampling,
        *,
        seed_of: Callable[[Prompt], int],
        step: int,
        poll: Poll,
        phase: TrainPhase = TrainPhase.GENERATE,
        kept: KeptStep | None = None,
    ) -> list[Sample]:
        """`n` completions of each prompt with the weights of `step`, ordered by prompt, then by number.

        The same arguments give the same samples, whichever servers answer. `poll` is called all along; when
        it raises, everything in flight is aborted. How long a server may answer nothing depends on `phase`. What `kept`
        has is not asked again; what is answered goes there. Raises `Mistake` for a prompt that does not fit,
        `ServersLostError`, and `FencedError` from `kept` or a server.
        """
        servers = self._serving(step, poll)
        for prompt in prompts:
            check_length(prompt, sampling.max_new_tokens, self._longest(servers, poll))
        questions = [Question(prompt, n, sampling, seed_of(prompt)) for prompt in prompts]
        for group in kept.take({q.key: q.prompt for q in questions}) if kept else ():
            self._kept[group.key] = group.samples
        todo = list({q.key: q for q in questions if q.key not in self._kept}.values())
        self._open = len(todo)
        patience, hangs = Patience(self._limits, phase), self._roster.give_up_hung
        dispatch = Dispatch(servers, step, self._in_hand(n), partial(self._answered, kept), hangs, patience)
        with _written(kept, poll) as poll_and_write:
            left = self.run(dispatch.run(todo), poll_and_write)
        if left:
            failures = "; ".join(str(failure) for failure in dispatch.failures)
            raise ServersLostError(f"{len(left)} of {len(questions)} prompts have no server left: {failures}")
        return [replace(sample, prompt=q.prompt) for q in questions for sample in self._kept[q.key]]

    def run(self, work: Coroutine[Any, Any, T], poll: Poll) -> T:
        """Wait for `work` in the servers' event loop, polling."""
        return self._background.run(work, poll)

    def wait(self, work: Future[T], poll: Poll) -> T:
        """Wait for what was started before, polling."""
        return self._background.wait(work, poll)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` in the servers' event loop."""
        return self._background.submit(work)

    def close(self) -> None:
        self._background.submit(self._session.close()).result()
        self._background.close()

    def _wait(self, servers: list[Seen], poll: Poll) -> list[Seen]:
        looks = count()
        while len(servers) < self.min_replicas:
            if next(looks) % LOOKS_PER_FENCE == 0:
                self._check_fence()
            self._tell(
                f"{len(servers)} of {self.replicas} rollout servers are up, training needs "
                f"rollout.minReplicas {self.min_replicas}"
            )
            self.run(asyncio.sleep(LOOK_SECONDS), poll)
            servers = self.look(poll)
        return servers

    async def _look(self) -> list[Seen]:
        clients = self._roster.clients
        while host := await self._newcomers.host(len(clients)):
            clients.append(self._client(len(clients), host))
        return await self._roster.look()

    def _client(self, index: int, host: str) -> Client:
        url = f"http://{_bracketed(host)}:{self._port}"
        return Client(index, url, control_token(), self._session, self._attempt)

    def _serving(self, step: int, poll: Poll) -> dict[int, Seen]:
        version = wire_version(self._attempt, step)
        if version != self._kept_version:
            self._kept, self._kept_version = {}, version
        servers = {s.client.index: s for s in self.look(poll) if s.version == version}
        if not servers:
            raise ServersLostError(f"no rollout server holds weights {version}")
        return servers

    def _answered(
        self, kept: KeptStep | None, question: Question, samples: list[Sample], seconds: float
    ) -> None:
        self._kept[question.key] = samples
        if kept:
            kept.add(Group(question.key, samples, seconds))
        self._open -= 1
        self._tell(f"{self._open} prompts to go")

    def _in_hand(self, n: int) -> int:
        """Requests that fill a server, and one that waits."""
        return max(1, self.max_num_seqs // n) + 1

    def _longest(self, servers: dict[int, Seen], poll: Poll) -> int:
        """`maxModelLen` as the servers understand it."""
        if self._max_model_len is None:
            client = next(iter(servers.values())).client
            answer = self.run(client.get("/v1/models", "telling its longest context"), poll)
            self._max_model_len = int(answer.body["data"][0]["max_model_len"])
        return self._max_model_len


@contextmanager
def _written(kept: KeptStep | None, poll: Poll) -> Iterator[Poll]:
    """`poll`, and what is answered goes to the volume all along; the rest of it in the end, whatever that is."""
    if kept is None:
        yield poll
        return

    def poll_and_write() -> None:
        poll()
        kept.write_due()

    try:
        yield poll_and_write
    finally:
        kept.write_due()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, resolver=LastKnown())
    return aiohttp.ClientSession(connector=connector)
