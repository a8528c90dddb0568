"""Spreads a step's prompts over the servers that hold the right weights, and re-sends those of a server that fails."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rljob_api.algorithm import Sampling
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.rollout import client
from rljob_trainer.rollout.answers import CutOffError, completion_request, samples_of
from rljob_trainer.rollout.client import NO_ANSWER, ReplicaError, Seen
from rljob_trainer.rollout.patience import Patience
from rljob_trainer.rollout.time_shares import TimeShares

WATCH_SECONDS = 10.0
"""How often a server with work in hand is asked whether it still lives: a dead node closes no connection."""

MAX_SENDS = 8
"""A prompt that was lost with so many servers is taken to be what kills them."""


@dataclass(frozen=True)
class Question:
    """One request: `count` completions of a prompt."""

    prompt: Prompt
    count: int
    sampling: Sampling
    seed: int

    @cached_property
    def key(self) -> str:
        """Digest of what its samples depend on, beside the weights."""
        text = f"{self.prompt.token_ids}/{self.count}/{self.sampling.model_dump_json()}/{self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()


Running = dict[asyncio.Task[list[Sample]], tuple[Question, int]]
"""Requests in flight, each with its question and the index of the server that was asked."""


def least_loaded(loads: Mapping[int, int], limit: int) -> int | None:
    """The server with the fewest requests in hand, the lowest index first; None when all have `limit`."""
    index = min(loads, key=lambda i: (loads[i], i), default=None)
    return index if index is not None and loads[index] < limit else None


@dataclass
class Dispatch:
    """One round of questions."""

    servers: dict[int, Seen]
    """Those that still answer; shrinks."""
    version: int
    in_hand: int
    """Most requests that one server is given at a time."""
    done: Callable[[Question, list[Sample], float], None]
    """Told of each answer, with what it took of the time, in seconds."""
    hangs: Callable[[Seen, str], None]
    """Told of a server that is there and says nothing, or nothing of what it is asked; with how that was noticed."""
    patience: Patience = field(default_factory=Patience)
    failures: list[ReplicaError] = field(default_factory=list)
    _sends: Counter[int] = field(default_factory=Counter)
    _shares: TimeShares = field(default_factory=TimeShares)

    async def run(self, questions: list[Question]) -> list[Question]:
        """Ask them all; returns those left when no server remains. Cancelling it aborts what is in flight."""
        waiting = deque(questions)
        running: Running = {}
        watch = asyncio.create_task(self._watch())
        try:
            while waiting or running:
                while waiting and (index := self._next(running)) is not None:
                    question = waiting.popleft()
                    task = asyncio.create_task(self._ask(question, self.servers[index]))
                    running[task] = (question, index)
                    self._shares.begin(question.key, time.monotonic())
                    self.patience.asked(index, time.monotonic())
                if not running:
                    break
                finished, _ = await asyncio.wait(
                    running, timeout=WATCH_SECONDS / 10, return_when=asyncio.FIRST_COMPLETED
                )
                if watch.done():
                    watch.result()  # it only ends when it raises
                for task in finished | self._orphans(running):
                    self._settle(task, *running.pop(task), waiting)
                self._lose_patience(running)
            return list(waiting)
        finally:
            await _cancel([watch, *running])

    def _next(self, running: Running) -> int | None:
        loads = Counter(index for _, index in running.values())
        return least_loaded({index: loads[index] for index in self.servers}, self.in_hand)

    async def _ask(self, question: Question, server: Seen) -> list[Sample]:
        request = completion_request(question.prompt, question.count, question.sampling, question.seed)
        answer = await server.client.post("/v1/completions", request, "answering")
        if answer.instance != server.instance:
            reason = "it was replaced by one without these weights"
            raise ReplicaError(server.client.index, "answering", reason)
        if answer.weights != server.version:
            reason = f"the answer is of weights {answer.weights or 'of no version'}, not {server.version}"
            raise ReplicaError(server.client.index, "answering", reason)
        return samples_of(answer.body, question.prompt, self.version)

    def _settle(
        self, task: asyncio.Task[list[Sample]], question: Question, index: int, waiting: deque[Question]
    ) -> None:
        seconds = self._shares.end(question.key, time.monotonic())
        if not task.done():
            task.cancel()
            self._again(question, waiting)
            return
        try:
            self.done(question, task.result(), seconds)
            self.patience.answered(index, time.monotonic())
        except CutOffError as error:
            self._drop(ReplicaError(index, "answering", str(error)))
            self._again(question, waiting)
        except ReplicaError as error:
            if error.status is not None and error.status < 500:
                raise  # the request itself is wrong; another server would say the same
            self._drop(error)
            self._again(question, waiting)

    def _lose_patience(self, running: Running) -> None:
        busy = {index for _, index in running.values() if index in self.servers}
        for index in self.patience.exhausted(busy, time.monotonic()):
            reason = f"it has prompts in hand and has answered none for {self.patience.seconds:g} s"
            self.hangs(self.servers[index], reason)
            self._drop(ReplicaError(index, "answering", reason))

    def _drop(self, error: ReplicaError) -> None:
        if self.servers.pop(error.replica, None):
            self.failures.append(error)

    def _again(self, question: Question, waiting: deque[Question]) -> None:
        self._sends[question.seed] += 1
        if self._sends[question.seed] >= MAX_SENDS:
            raise RuntimeError(
                f"prompt {question.prompt.index} was lost with {MAX_SENDS} rollout servers; it begins "
                f"{question.prompt.text[:80]!r}. The last of them: {self.failures[-1]}"
            )
        waiting.appendleft(question)

    def _orphans(self, running: Running) -> set[asyncio.Task[list[Sample]]]:
        """Requests that wait for a server which the watch has given up on."""
        return {task for task, (_, index) in running.items() if index not in self.servers and not task.done()}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for index, server in list(self.servers.items()):
                seen = await client.look(server.client, client.PROBE_SECONDS)
                if isinstance(seen, ReplicaError):
                    self._drop(seen)
                    if seen.silent:
                        self.hangs(server, NO_ANSWER.format(client.PROBE_SECONDS))
                elif seen.instance != server.instance:
                    self._drop(ReplicaError(index, "answering", "it was replaced"))


async def _cancel(tasks: list[asyncio.Task[list[Sample]] | asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
