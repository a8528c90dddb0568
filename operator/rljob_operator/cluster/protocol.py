"""Where desired state is made real. `reconcile` speaks to this protocol and never asks which place stands behind it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import Status

from ..observed import Observed, Pod, Refusal


class Cluster(Protocol):
    async def observe(self, job: RLJob) -> Observed:
        """Everything that belongs to the job, now."""

    async def apply(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        """Make each exist. A pod, ConfigMap or Secret that exists already is left as it is.

        Returns what the place would not have; the next `observe` tells of it too.
        """

    async def restore(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        """Make again what of these is gone. What stands is left as it is, though it was made by an older operator, for
        other defaults, or changed by hand. Returns the same.
        """

    async def delete(self, job: RLJob, pods: Iterable[Pod]) -> None:
        """Ask pods to go, within their `grace_seconds`; those that ended are forgotten. Returns at once."""

    async def delete_job(self, job: RLJob) -> None:
        """The job itself, with everything that it owns."""

    async def write_status(self, job: RLJob, status: Status) -> None:
        """Keep it. Returning means that it outlives a crash."""
