"""Which rollout servers there are now, and which of them are used no more. The fleet's memory of faces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from rljob_api.progress import BrokenReplica
from rljob_trainer.rollout import client
from rljob_trainer.rollout.client import Client, ReplicaError, Seen

GIVEN_UP_SECONDS = 1.0
"""How long a server that was given up on is waited for: only its successor is of interest, and that one answers."""


@dataclass
class Roster:
    """One entry per replica; a process that takes another's place is told by its instance."""

    clients: list[Client]
    _last_seen: dict[int, Seen] = field(default_factory=dict)
    _given_up: dict[tuple[int, str], BrokenReplica] = field(default_factory=dict)

    @property
    def broken(self) -> list[BrokenReplica]:
        """Servers that were given up on and want to be replaced."""
        return list(self._given_up.values())

    def give_up(self, server: Seen, reason: str) -> None:
        """Use this server no more; the one that replaces it is welcome."""
        since = server.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        broken = BrokenReplica(index=server.client.index, since=since, reason=reason)
        self._given_up.setdefault((server.client.index, server.instance), broken)

    def give_up_hung(self, server: Seen, noticed: str) -> None:
        """As `give_up`, for one that is there and does nothing."""
        self.give_up(server, f"it hangs: {noticed}")

    async def look(self) -> list[Seen]:
        """Servers that answer now and were not given up on, by index; one that has answered before and hangs is."""
        found = await asyncio.gather(*(self._look_at(each) for each in self.clients))
        for error in found:
            if isinstance(error, ReplicaError) and error.silent and error.replica in self._last_seen:
                noticed = client.NO_ANSWER.format(client.PROBE_SECONDS)
                self.give_up_hung(self._last_seen[error.replica], noticed)
        seen = {one.client.index: one for one in found if isinstance(one, Seen)}
        self._last_seen |= seen
        self._welcome_successors(seen)
        return [one for index, one in seen.items() if (index, one.instance) not in self._given_up]

    async def _look_at(self, each: Client) -> Seen | ReplicaError:
        given_up = any(index == each.index for index, _ in self._given_up)
        seconds = GIVEN_UP_SECONDS if given_up else client.PROBE_SECONDS
        seen = await client.look(each, seconds)
        if isinstance(seen, ReplicaError):
            return seen
        before = self._last_seen.get(each.index)
        if before and before.instance == seen.instance:
            return replace(seen, workers=before.workers)
        return await client.acquainted(seen, client.PROBE_SECONDS)

    def _welcome_successors(self, seen: dict[int, Seen]) -> None:
        for index, instance in list(self._given_up):
            if index in seen and seen[index].instance != instance:
                del self._given_up[index, instance]
