"""Which containers `kubectl rljob logs` reads."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_cli.kubectl.logs import started
from rljob_operator import names

RUNNING: Manifest = {"running": {}}
DONE: Manifest = {"terminated": {"exitCode": 0}}
WAITING: Manifest = {"waiting": {"reason": "PodInitializing"}}


def a_pod(role: RoleName, state: Manifest, before: Manifest | None = None) -> Manifest:
    init = [] if before is None else [{"name": "convert", "state": before}]
    return {
        "metadata": {"name": f"demo-{role}", "labels": names.pod_labels("demo", role, 0, 1)},
        "status": {
            "initContainerStatuses": init,
            "containerStatuses": [{"name": role.value, "state": state}],
        },
    }


def labels(*pods: Manifest, role: str = "") -> list[str]:
    return [log.label for log in started(list(pods), role)]


def test_init_containers_come_first_under_their_own_name() -> None:
    pods = (a_pod(RoleName.ROLLOUT, RUNNING), a_pod(RoleName.TRAINER, RUNNING, DONE))
    assert labels(*pods) == ["demo-trainer convert", "demo-trainer", "demo-rollout"]
    assert labels(*pods, role="rollout") == ["demo-rollout"]


def test_a_container_that_waits_for_its_init_container_has_said_nothing_yet() -> None:
    assert labels(a_pod(RoleName.TRAINER, WAITING, RUNNING)) == ["demo-trainer convert"]
    assert labels(a_pod(RoleName.TRAINER, WAITING, WAITING)) == []
