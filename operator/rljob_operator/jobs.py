"""Every RLJob of ours as the API server has it: told by kopf's watch and by the answers to our own writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from rljob_api.base import Manifest
from rljob_api.goodput import Use
from rljob_api.job import ACCEPTED, RLJob
from rljob_api.known import known
from rljob_api.status import Status

from . import times
from .queue import Key


@dataclass(frozen=True, slots=True)
class Told:
    """What a job's status says that metrics are made of."""

    phase: str
    restarts: int
    preemptions: int
    rollout_restarts: int
    saved_at: float | None
    """When the newest checkpoint was saved; None once the job stands still, for then its age is of no concern."""
    shares: tuple[float, ...] = ()
    """Of the job's time by use, from 0 to 1, in the order of `Use`; empty until there are any."""
    gpu_shares: tuple[float, ...] = ()
    """Of its GPU time; empty for a job without GPUs."""


@dataclass(slots=True)
class Stored:
    """One job. Kept as text: a fifth of what the models need."""

    uid: str
    version: int
    attempt: int
    """Number of the attempt that runs now, or of the last one; 0 before the first."""
    deleting: bool
    told: Told
    text: str

    def parse(self) -> RLJob:
        """A job that has begun is not judged again by rules over several fields: an upgrade abandons nothing. Nor does
        the way back: of a status with words of a newer operator the others count, if its attempt is among them.

        Raises `pydantic.ValidationError`.
        """
        try:
            return self._validated(self.text)
        except ValidationError as error:
            if not _is_of_status(error):
                raise
            status, manifest = self.status, self.manifest
            if status.attempt is None and manifest["status"].get("attempt"):
                raise
        job = self._validated(json.dumps(manifest | {"status": None}))
        return job.model_copy(update={"status": status})

    @property
    def manifest(self) -> Manifest:
        return dict(json.loads(self.text))

    @property
    def generation(self) -> int:
        return int(self.manifest["metadata"].get("generation", 0))

    @property
    def status(self) -> Status:
        """What is known of its words.

        Raises `pydantic.ValidationError` if nothing is.
        """
        return known(self.manifest.get("status") or {}).status

    def _validated(self, text: str) -> RLJob:
        context = ACCEPTED if self.attempt else None
        return RLJob.model_validate_json(text, by_alias=True, by_name=False, context=context)


class Jobs:
    """`changed` is called with each job that changed."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._stored: dict[Key, Stored] = {}

    def __len__(self) -> int:
        return len(self._stored)

    def items(self) -> Iterator[tuple[Key, Stored]]:
        return iter(list(self._stored.items()))

    def get(self, key: Key) -> Stored | None:
        return self._stored.get(key)

    def put(self, manifest: Manifest) -> None:
        """There, in this version, unless a newer one is known."""
        key, new = _stored(manifest)
        before = self._stored.get(key)
        if before is None or before.version < new.version:
            self._stored[key] = new
            self._changed(key)

    def written(self, manifest: Manifest) -> None:
        """The answer to a write of ours. A job that is gone does not come back by it, and no pass is due to it."""
        key, new = _stored(manifest)
        before = self._stored.get(key)
        if before is not None and before.uid == new.uid and before.version < new.version:
            self._stored[key] = new

    def drop(self, key: Key, uid: str) -> None:
        before = self._stored.get(key)
        if before is not None and before.uid == uid:
            del self._stored[key]
            self._changed(key)

    def sweep(self, namespace: str, present: set[str], version: int) -> None:
        """Drop what a list of that version no longer has: kopf's watch forgets deletions when it lists anew.

        An empty namespace means all.
        """
        for key, one in self.items():
            inside = namespace in ("", key[0])
            if inside and one.uid not in present and one.version <= version:
                self.drop(key, one.uid)


def _is_of_status(error: ValidationError) -> bool:
    """Whether a part of it is."""
    return any(mistake["loc"][:1] == ("status",) for mistake in error.errors())


def _stored(manifest: Manifest) -> tuple[Key, Stored]:
    metadata = manifest["metadata"]
    metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    text = json.dumps({**manifest, "metadata": metadata}, separators=(",", ":"))
    key = (metadata["namespace"], metadata["name"])
    status = manifest.get("status") or {}
    return key, Stored(
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        attempt=(status.get("attempt") or {}).get("number", 0),
        deleting="deletionTimestamp" in metadata,
        told=_told(status),
        text=text,
    )


def _told(status: Manifest) -> Told:
    goodput = status.get("goodput") or {}
    return Told(
        phase=status.get("phase", "Pending"),
        restarts=status.get("restarts", 0),
        preemptions=status.get("preemptions", 0),
        rollout_restarts=status.get("rollout", {}).get("restarts", 0),
        saved_at=_saved_at(status),
        shares=_shares(goodput.get("percent"), goodput.get("shares")),
        gpu_shares=_shares(goodput.get("gpuPercent"), goodput.get("gpuShares")),
    )


def _shares(percent: str | None, shares: Manifest | None) -> tuple[float, ...]:
    """A use that is newer than the operator who wrote this took nothing."""
    return tuple(float(shares.get(use, 0)) / 100 for use in Use) if percent and shares else ()


def _saved_at(status: Manifest) -> float | None:
    latest = status.get("checkpoint", {}).get("latest")
    still = status.get("completionTime") or status.get("phase") == "Suspended"
    return times.to_seconds(latest["time"]) if latest and not still else None
