"""One rollout server over HTTP: asks it, and tells what went wrong in a sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

import aiohttp

from rljob_api.base import Manifest
from rljob_api.manifest import ProcessVersions
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.rollout.guard import ATTEMPT_HEADER, INSTANCE_HEADER, WEIGHTS_HEADER, bearer
from rljob_trainer.rollout.vllm_worker import TELL

PROBE_SECONDS = 30.0
"""A server that takes longer to say which weights it has is taken to hang: a busy machine lets a sound one wait."""
CONNECT_SECONDS = 5.0
"""A server that takes no connection in this time is gone with its pod. One that hangs takes them: its kernel does.
Less than `PROBE_SECONDS`, to be told from it."""
NO_ANSWER = "it takes connections, and has answered nothing for {:g} s"


NO_HEADERS: Mapping[str, str] = MappingProxyType({})
CLOSE = {"Connection": "close"}


class ReplicaError(Exception):
    """A rollout server did not do what it was asked."""

    def __init__(
        self, replica: int, phase: str, reason: str, status: int | None = None, *, silent: bool = False
    ) -> None:
        super().__init__(f"rollout server {replica}, {phase}: {reason}")
        self.replica = replica
        self.status = status
        """HTTP status of its answer; None when no answer came."""
        self.silent = silent
        """It took the connection, and did not answer in the time it had."""


@dataclass(frozen=True)
class Answer:
    """What a server said, which process said it, and by which weights."""

    body: Manifest
    instance: str
    weights: str
    """Version of the weights when the answer was ready; empty while none is whole."""


@dataclass(frozen=True)
class Client:
    """One attempt's connection to one replica. All methods run inside the fleet's event loop.

    Each raises `FencedError` once a newer attempt has asked the same server.
    """

    index: int
    url: str
    token: str = field(repr=False)
    session: aiohttp.ClientSession = field(repr=False)
    attempt: int

    async def get(self, path: str, phase: str, seconds: float | None = PROBE_SECONDS) -> Answer:
        return await self._ask("GET", path, None, phase, seconds)

    async def post(
        self,
        path: str,
        body: Manifest | None,
        phase: str,
        seconds: float | None = None,
        *,
        alone: bool = False,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Raises `ReplicaError`: no answer in `seconds` (None: however long it takes), or not 200.

        `alone`: on a connection of its own. After an error, vLLM's server closes the one that it answered on without
        saying so; on a busy machine the next request is sent before that is seen, and is lost.
        """
        return await self._ask(
            "POST", path, body, phase, seconds, headers={**headers, **(CLOSE if alone else {})}
        )

    async def takes_connections(self) -> bool:
        """Whether it can be reached: the kernel lets a connection in even while the process behind it is busy.

        `/health` asks nothing of the engine, where `/weight_info` would queue behind an update that is under way.
        """
        try:
            await self._ask("GET", "/health", None, "reaching it", 2 * CONNECT_SECONDS, headers=CLOSE)
        except ReplicaError as error:
            return error.silent or error.status is not None
        return True

    async def _ask(
        self,
        method: str,
        path: str,
        body: Manifest | None,
        phase: str,
        seconds: float | None,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        try:
            async with self.session.request(
                method,
                self.url + path,
                json=body,
                headers={**self._who, **headers},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                self._refuse_fenced(response)
                if response.status != 200:
                    raise ReplicaError(self.index, phase, (await response.text())[:500], response.status)
                text = await response.json() if response.content_type == "application/json" else {}
                marks = response.headers
                return Answer(text, marks.get(INSTANCE_HEADER, ""), marks.get(WEIGHTS_HEADER, ""))
        except aiohttp.ConnectionTimeoutError:
            raise ReplicaError(self.index, phase, f"no connection within {CONNECT_SECONDS} s") from None
        except TimeoutError:
            raise ReplicaError(self.index, phase, f"no answer within {seconds} s", silent=True) from None
        except aiohttp.ClientError as error:
            raise ReplicaError(self.index, phase, f"{type(error).__name__}: {error}") from error

    @property
    def _who(self) -> Mapping[str, str]:
        return {"Authorization": bearer(self.token), ATTEMPT_HEADER: str(self.attempt)}

    def _refuse_fenced(self, response: aiohttp.ClientResponse) -> None:
        """Refused or answered: a server that a newer attempt has asked is not this one's any more."""
        newest = int(response.headers.get(ATTEMPT_HEADER, "0"))
        if newest > self.attempt:
            raise FencedError(
                f"attempt {self.attempt} may not use the rollout servers any more: attempt {newest} has taken"
                " them over. The newer attempt goes on from the last verified checkpoint."
            )


@dataclass(frozen=True)
class Seen:
    """A server that answered just now."""

    client: Client
    instance: str
    """Changes when the server is replaced."""
    version: str
    """Weights that it serves with; empty before the first push, and while they change."""
    at: datetime
    """When it answered, so its pod had started by then."""
    workers: tuple[ProcessVersions, ...] = ()
    """What computes its samples, as its workers tell; empty if they cannot."""


async def look(client: Client, seconds: float) -> Seen | ReplicaError:
    """The server as it is now, or why it cannot be used."""
    try:
        answer = await client.get("/weight_info", "looking for it", seconds)
    except ReplicaError as error:
        return error
    return Seen(client, answer.instance, answer.weights, datetime.now(UTC))


async def acquainted(seen: Seen, seconds: float) -> Seen | ReplicaError:
    """The server with what its workers compute with. One that names the method as what it lacks is of an older image,
    and stays as it was; any other error says that it cannot be used."""
    phase = "telling what it computes with"
    try:
        answer = await seen.client.post("/collective_rpc", {"method": TELL}, phase, seconds, alone=True)
    except ReplicaError as error:
        return seen if TELL in str(error) else error
    if answer.instance != seen.instance:
        return ReplicaError(seen.client.index, phase, "it was replaced")
    told = [ProcessVersions.model_validate(worker) for worker in answer.body["results"]]
    return replace(seen, workers=tuple(told))
