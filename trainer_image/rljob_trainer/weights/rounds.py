"""The control calls of a weight update, each made to all servers at once.

vLLM's order: pause, (leave the old group, meet in a new one,) start, update, finish, and only then resume: a question
to half-loaded weights kills the engine, while `/health` says that all is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from rljob_api.algorithm import Sampling
from rljob_api.base import Manifest
from rljob_trainer.batch import Prompt
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.rollout.answers import CutOffError, completion_request, samples_of
from rljob_trainer.rollout.client import NO_HEADERS, ReplicaError, Seen
from rljob_trainer.rollout.fleet import Fleet, Poll
from rljob_trainer.rollout.guard import FINISHED, WEIGHTS_HEADER
from rljob_trainer.rollout.reach import while_reachable

T = TypeVar("T")
PROOF = Prompt(index=-1, text="", token_ids=[0], answer="")
"""What a server is asked after an update, to see it answer."""


class SeveralFailedError(Exception):
    """Some servers failed in a round."""

    def __init__(self, errors: list[ReplicaError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class Rounds:
    """Calls to many servers with one deadline. Each raises `SeveralFailedError`, or `FencedError`; and what `poll`
    raises, which is called while they are waited for.
    """

    fleet: Fleet
    seconds: float
    poll: Poll = lambda: None

    def wait(self, calls: Future[T]) -> T:
        """For what goes on in the background."""
        return self.fleet.wait(calls, self.poll)

    def pause(self, servers: list[Seen]) -> Future[None]:
        """Nothing is answered once it is done, what is in flight is aborted, and cached prefixes are dropped."""
        path = "/pause?mode=abort&clear_cache=true"
        return self.fleet.start(_together(servers, lambda s: self._post(s, path, None, "pausing")))

    def leave(self, servers: list[Seen]) -> None:
        """Drop the group of an earlier membership or of a trainer that is gone."""
        self._all(servers, self._leave)

    def meet(self, servers: list[Seen], meeting: Manifest, ranks_each: int) -> Future[None]:
        """Join the group that rank 0 opens; goes on in the background."""

        def join(server: Seen) -> Coroutine[Any, Any, None]:
            info = {**meeting, "rank_offset": 1 + ranks_each * servers.index(server)}
            return self._post(
                server, "/init_weight_transfer_engine", {"init_info": info}, "joining the group"
            )

        return self.fleet.start(_together(servers, join))

    def begin(self, servers: list[Seen]) -> None:
        self._all(servers, lambda s: self._post(s, "/start_weight_update", None, "starting an update"))

    def update(self, servers: list[Seen], source: Manifest, failed: Callable[[], None]) -> Future[None]:
        """Take weights from `source`; goes on in the background. `failed` is called when one of them fails."""

        async def take(server: Seen) -> None:
            try:
                await self._post(server, "/update_weights", {"update_info": source}, "taking weights")
            except (ReplicaError, FencedError):
                failed()
                raise

        return self.fleet.start(_together(servers, take))

    def finish(self, servers: list[Seen], version: str) -> None:
        """Make the new weights serve, verify that they are the ones, resume, and see a real answer."""
        self._all(servers, lambda server: self._finish(server, version))

    def _all(self, servers: list[Seen], call: Callable[[Seen], Coroutine[Any, Any, None]]) -> None:
        self.wait(self.fleet.start(_together(servers, call)))

    async def _post(
        self,
        server: Seen,
        path: str,
        body: Manifest | None,
        phase: str,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        call = server.client.post(path, body, phase, self.seconds, alone=True, headers=headers)
        await while_reachable(server.client, phase, call)

    async def _leave(self, server: Seen) -> None:
        try:
            await self._post(server, "/shutdown_weight_transfer_engine", None, "leaving the group")
        except ReplicaError as error:
            if error.status is None:
                raise
            # An update that a dead trainer began still stands open; one without a source ends it.
            await self._abandon(server)
            await self._post(server, "/shutdown_weight_transfer_engine", None, "leaving the group")

    async def _abandon(self, server: Seen) -> None:
        try:
            await self._post(server, "/update_weights", {"update_info": {}}, "abandoning an update")
        except ReplicaError as error:
            if error.status is None:
                raise

    async def _finish(self, server: Seen, version: str) -> None:
        names = {"weight_version": version}
        await self._post(server, FINISHED, names, "finishing an update", {WEIGHTS_HEADER: version})
        asking = server.client.get("/weight_info", "verifying the version", self.seconds)
        info = await while_reachable(server.client, "verifying the version", asking)
        if wrong := {info.body["weight_version"], info.weights} - {version}:
            held = " and ".join(sorted(wrong)) or "none"
            raise ReplicaError(
                server.client.index, "verifying the version", f"it holds {held}, not {version}", 200
            )
        await self._post(server, "/resume", None, "resuming")
        request = completion_request(PROOF, 1, Sampling(max_new_tokens=1), seed=0)
        proving = server.client.post("/v1/completions", request, "answering after an update", self.seconds)
        answer = await while_reachable(server.client, "answering after an update", proving)
        try:
            samples_of(answer.body, PROOF, 0)
        except CutOffError as error:  # it is going
            raise ReplicaError(server.client.index, "answering after an update", str(error)) from error


async def _together(servers: list[Seen], call: Callable[[Seen], Coroutine[Any, Any, None]]) -> None:
    outcomes = await asyncio.gather(*(call(server) for server in servers), return_exceptions=True)
    unexpected = [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, ReplicaError)]
    if unexpected:
        raise unexpected[0]
    if errors := [outcome for outcome in outcomes if isinstance(outcome, ReplicaError)]:
        raise SeveralFailedError(errors)
