"""Whoever may create RLJobs gets no more of a cluster by them than pods that a restricted namespace admits."""

from __future__ import annotations

from typing import Any

import pytest

from api.hostile import HARMLESS, REFUSED
from api.test_api_server import JOBS
from kube.api import Api
from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus, Status
from rljob_operator import names
from rljob_operator.decide import Decision, Goal, PodStart
from rljob_operator.render import render
from rljob_operator.settings import Settings

LAX = "dryRun=All"
"""An attacker's client does not ask for strict validation."""


def test_the_table_is_long_enough() -> None:
    assert len(REFUSED) + len(HARMLESS) >= 60


@pytest.mark.parametrize("name", REFUSED)
def test_refused(api_server: Api, name: str) -> None:
    answer = api_server.post(f"{JOBS}?{LAX}", REFUSED[name].job)
    assert answer.code in {400, 422}, f"let it through: {answer.body}"
    assert REFUSED[name].words in answer.message


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(api_server: Api, name: str) -> None:
    answer = api_server.post(f"{JOBS}?{LAX}", HARMLESS[name])
    assert answer.code == 201, answer.message
    assert "status" not in answer.body
    for pod in pods(RLJob.parse(answer.body)):
        assert_sandboxed(pod)


def pods(job: RLJob) -> list[Manifest]:
    """The first pods that the operator would create."""
    name = job.metadata.name
    attempt = AttemptStatus(number=1, run_config_map_name=names.run_config_map(name, 1))
    starts = (
        PodStart(RoleName.TRAINER, 9999, names.trainer_pod(name, 9999, 99_999)),
        PodStart(RoleName.ROLLOUT, 4095, names.rollout_pod(name, 4095, 99_999)),
    )
    decision = Decision(Goal.RUN, "FirstAttempt", start=starts)
    begun = job.model_copy(update={"status": Status(attempt=attempt)})
    rendered = render(begun, decision, "token", Settings())
    return [manifest for manifest in rendered if manifest["kind"] == "Pod"]


def assert_sandboxed(pod: Manifest) -> None:
    assert len(pod["metadata"]["name"]) <= 63
    assert not {"finalizers"} & pod["metadata"].keys()
    spec: dict[str, Any] = pod["spec"]
    assert len(spec["hostname"]) <= 63
    assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName", "initContainers"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 65532)
    (container,) = spec["containers"]
    assert container["command"][:3] == ["python3", "-m", "rljob_trainer"]
    assert not {"envFrom", "lifecycle", "args"} & container.keys()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "persistentVolumeClaim", "emptyDir"}
    assert all("mountPropagation" not in mount for mount in container["volumeMounts"])
