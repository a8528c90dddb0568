"""Which logs the pods of a job have. `logs.py` and `follow.py` read them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_operator import names


@dataclass(frozen=True)
class Log:
    """What one container of a pod says."""

    pod: str
    container: str
    before: bool
    """It is an init container."""
    runs: bool = field(compare=False)
    """It may say more."""

    @property
    def label(self) -> str:
        return f"{self.pod} {self.container}" if self.before else self.pod


def started(pods: list[Manifest], role: RoleName | None = None, name: str = "") -> list[Log]:
    """Containers that ran at least once, of pods of that role whose name contains `name`: trainers' first, and in a pod
    in their order."""
    named = [pod for pod in pods if name in pod["metadata"]["name"]]
    found = [pod for pod in named if role is None or _role(pod) == role]
    return [log for pod in sorted(found, key=_trainers_first) for log in _of_pod(pod)]


def _of_pod(pod: Manifest) -> Iterator[Log]:
    for kind, before in (("initContainerStatuses", True), ("containerStatuses", False)):
        for container in pod.get("status", {}).get(kind, []):
            state = container.get("state", {})
            if "running" in state or "terminated" in state:
                yield Log(pod["metadata"]["name"], container["name"], before, "running" in state)


def _trainers_first(pod: Manifest) -> tuple[bool, str]:
    return _role(pod) != RoleName.TRAINER, pod["metadata"]["name"]


def _role(pod: Manifest) -> str:
    """Empty for a pod of somebody else that bears the job's name."""
    return str(pod["metadata"].get("labels", {}).get(names.LABEL_ROLE, ""))
