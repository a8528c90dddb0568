"""The local cluster as `rljob replay` uses it: its trainers are told which steps to do again.

Where they train on recorded samples nobody asks the servers anything, and none is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.run import RUN_FILE, Replay, Run

from .. import names
from .local import LocalCluster
from .workdir import WorkDir


class ReplayCluster(LocalCluster):
    """One replay on this machine."""

    def __init__(self, replay: Replay, job: RLJob, work_dir: WorkDir, cwd: Path, cache: Path) -> None:
        super().__init__(job, work_dir, cwd, cache)
        self._replay = replay

    async def apply(self, job: RLJob, manifests: Iterable[Manifest]) -> None:
        wanted = (one for one in manifests if not (self._replay.samples and _is_server(one)))
        await super().apply(job, [_told(one, self._replay) for one in wanted])


def _is_server(manifest: Manifest) -> bool:
    labels = manifest["metadata"].get("labels", {})
    return manifest["kind"] == "Pod" and RoleName(labels[names.LABEL_ROLE]) is RoleName.ROLLOUT


def _told(manifest: Manifest, replay: Replay) -> Manifest:
    """With `replay` in the run of an attempt's ConfigMap; all else as it is."""
    if manifest["kind"] != "ConfigMap" or RUN_FILE not in manifest["data"]:
        return manifest
    run = Run.model_validate_json(manifest["data"][RUN_FILE]).model_copy(update={"replay": replay})
    return {**manifest, "data": {**manifest["data"], RUN_FILE: run.model_dump_json(by_alias=True)}}
