"""The cluster that `rljob run` uses: rendered pods become processes of this machine.

Each pod has a loopback address of its own; mount paths and host names are replaced in its command, environment and
ConfigMaps by what they are here; probes, grace periods, termination messages and exit codes are honoured.
"""

from __future__ import annotations

import contextlib
import queue
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import Progress
from rljob_api.status import Status

from .. import names
from ..observed import Observed, Pod, newest_progress
from .addresses import addresses
from .container import containers, machine_places
from .gpus import Gpus, gpus_of_this_machine
from .process import PodProcess
from .progress import ProgressPoller
from .substitution import substitute
from .workdir import UNUSABLE, WorkDir, write


class LocalCluster:
    """One job on this machine. `wait` returns when anything changed."""

    def __init__(self, job: RLJob, work_dir: WorkDir, cwd: Path, cache: Path) -> None:
        name = job.metadata.name
        hosts = addresses(job, work_dir.path)
        self._work_dir = work_dir
        self._cwd = cwd
        self._machine = machine_places(job, work_dir, cache, hosts)
        self._pods: dict[str, PodProcess] = {}
        self._gpus = Gpus(gpus_of_this_machine())
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()  # its `put` is safe in a signal handler
        self._told: Progress | None = None
        self._poller = ProgressPoller(hosts[names.host(name, RoleName.TRAINER, 0)], self.nudge)
        self._poller.start()

    async def observe(self, job: RLJob) -> Observed:
        pods = tuple(process.pod for process in self._pods.values())
        self._told = newest_progress((self._told, self._poller.newest), pods, job.attempt)
        self._forget_gone()
        return Observed(
            pods=pods,
            progress=self._told,
            run_config_maps=frozenset(path.name for path in self._work_dir.config.iterdir()),
        )

    async def apply(self, job: RLJob, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            match manifest["kind"]:
                case "ConfigMap":
                    self._write_config(manifest, manifest["data"])
                case "Secret":
                    self._write_config(manifest, manifest["stringData"])
                case "Pod":
                    self._start(manifest)
                case _:
                    pass  # services and claims: addresses and the storage folder stand already

    async def restore(self, job: RLJob, manifests: Iterable[Manifest]) -> None:
        """Nothing: what surrounds processes of this machine cannot be deleted."""

    async def delete(self, job: RLJob, pods: Iterable[Pod]) -> None:
        for pod in pods:
            process = self._pods.get(pod.name)
            if process is None or process.pod.uid != pod.uid:
                continue
            if process.pod.ended:
                del self._pods[pod.name]
            else:
                process.terminate(pod.grace_seconds)

    async def delete_job(self, job: RLJob) -> None:
        """Nothing: what a user has started here stays."""

    async def write_status(self, job: RLJob, status: Status) -> None:
        """Raises `OSError` for what may pass, such as a full disk, and `WorkDirError` for what will not."""
        try:
            self._work_dir.write_status(status)
        except OSError as error:
            if error.errno in UNUSABLE:
                raise
            raise self._work_dir.unusable(error) from error

    def runs(self) -> bool:
        """Whether any pod does."""
        return any(not process.pod.ended for process in self._pods.values())

    def wait(self, timeout: float) -> None:
        """Until something changed, or `timeout` seconds passed."""
        with contextlib.suppress(queue.Empty):
            self._changes.get(timeout=timeout)
            while True:
                self._changes.get_nowait()

    def nudge(self) -> None:
        """End a `wait`; safe in a signal handler."""
        self._changes.put(None)

    def kill(self) -> None:
        """End all pods at once, without grace, and wait until they are gone."""
        self._poller.stop()
        for process in self._pods.values():
            process.kill()
        for process in self._pods.values():
            process.join()

    def _forget_gone(self) -> None:
        """A deleted pod is seen once more after its end, so that its last words are heard."""
        gone = [name for name, process in self._pods.items() if process.pod.ended and process.pod.terminating]
        for name in gone:
            del self._pods[name]

    def _write_config(self, manifest: Manifest, data: Mapping[str, str]) -> None:
        folder = self._work_dir.config / manifest["metadata"]["name"]
        if folder.exists():
            return
        places = self._paths() | self._machine
        staged = folder.with_name(f".{folder.name}")
        staged.mkdir(exist_ok=True)
        for name, text in data.items():
            write(staged / name, substitute(text, places), mode=0o600)
        staged.rename(folder)

    def _paths(self) -> dict[str, str]:
        return {names.CLAIM_PATH: str(self._work_dir.storage)}

    def _start(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        if name in self._pods:
            return
        process = PodProcess(
            _pod(manifest["metadata"]),
            containers(manifest, self._work_dir, self._machine),
            self._cwd,
            self._gpus,
            self.nudge,
        )
        self._pods[name] = process
        process.start()


def _pod(metadata: Mapping[str, Manifest]) -> Pod:
    labels = metadata["labels"]
    return Pod(
        name=str(metadata["name"]),
        uid=str(uuid.uuid4()),
        role=RoleName(labels[names.LABEL_ROLE]),
        index=int(labels[names.LABEL_INDEX]),
        attempt=int(labels[names.LABEL_ATTEMPT]),
    )
