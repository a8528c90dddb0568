"""Whether the rollout servers of an attempt compute alike. Any of them may answer a prompt, and which of them does
depends on the moment: samples repeat bit for bit only where that does not matter.

The fleet shows each server here before it gets weights, so before it draws anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rljob_api.manifest import ProcessVersions, Versions
from rljob_trainer.errors import Unmet
from rljob_trainer.rollout.client import Seen

SILENT = "does not tell what it computes with"


@dataclass
class Likeness:
    """What the servers told that were met so far."""

    exact: bool
    """Whether `resume.exactness` is `Exact`: then all have to be alike."""
    first: ProcessVersions | None = None
    """What the others are compared with."""
    unlike: dict[int, str] = field(default_factory=dict)
    """What others were met with, by index; that such a one is gone again undoes no sample."""
    changed: Callable[[], None] = lambda: None
    """Called when one more of them is unlike."""

    def meet(self, servers: Iterable[Seen]) -> None:
        """Raises `Unmet` for one that is unlike the first where that is asked for."""
        for server in servers:
            told = self._told(server)
            if told and self.unlike.get(server.client.index) != told:
                self._note(server.client.index, told)

    def beside(self, versions: Versions) -> Versions:
        """`versions` of ranks, with those of servers."""
        unlike = "; ".join(f"server {index} {told}" for index, told in sorted(self.unlike.items()))
        return versions.model_copy(update={"rollout_servers": self.first, "unlike_servers": unlike})

    def _told(self, server: Seen) -> str:
        """What of it is unlike the first; empty if nothing is."""
        if not server.workers:
            return SILENT
        self.first = self.first or server.workers[0]
        return next(filter(None, (_difference(self.first, worker) for worker in server.workers)), "")

    def _note(self, index: int, told: str) -> None:
        if self.exact:
            raise Unmet(
                f"spec.resume.exactness is Exact, but rollout server {index} {told}: samples may depend on which"
                " server draws them. Give all servers the same kind of node and the same image, or set"
                " spec.resume.exactness to Lossless, and the job goes on."
            )
        self.unlike[index] = told
        self.changed()


def _difference(first: ProcessVersions, other: ProcessVersions) -> str:
    was, now = dict(first), dict(other)
    parts = [f"{name} {now[name]} instead of {was[name]}" for name in was if was[name] != now[name]]
    return f"computes with {', '.join(parts)}" if parts else ""
