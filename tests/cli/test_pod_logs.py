"""Which containers `kubectl rljob logs` reads."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_cli.kubectl.pod_logs import started
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


def labels(*pods: Manifest, role: RoleName | None = None, name: str = "") -> list[str]:
    return [log.label for log in started(list(pods), role, name)]


def test_init_containers_come_first_under_their_own_name() -> None:
    pods = (a_pod(RoleName.ROLLOUT, RUNNING), a_pod(RoleName.TRAINER, RUNNING, DONE))
    assert labels(*pods) == ["demo-trainer convert", "demo-trainer", "demo-rollout"]
    assert labels(*pods, role=RoleName.ROLLOUT) == ["demo-rollout"]
    assert labels(*pods, name="roll") == ["demo-rollout"]
    assert labels(*pods, role=RoleName.TRAINER, name="roll") == []


def test_a_container_that_waits_for_its_init_container_has_said_nothing_yet() -> None:
    assert labels(a_pod(RoleName.TRAINER, WAITING, RUNNING)) == ["demo-trainer convert"]
    assert labels(a_pod(RoleName.TRAINER, WAITING, WAITING)) == []


def test_a_pod_of_somebody_else_that_bears_the_jobs_name_is_read_after_the_trainers() -> None:
    stranger = a_pod(RoleName.ROLLOUT, RUNNING)
    stranger["metadata"] = {"name": "a-stranger"}
    assert labels(stranger, a_pod(RoleName.TRAINER, RUNNING)) == ["demo-trainer", "a-stranger"]
    assert labels(stranger, role=RoleName.ROLLOUT) == []


def test_a_pod_that_was_just_created_has_no_log() -> None:
    assert labels({"metadata": {"name": "demo-trainer"}, "status": {}}) == []
