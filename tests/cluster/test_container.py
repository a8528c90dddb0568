"""What a rendered pod means on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import a_job, an_attempt
from rljob_api.failure import RoleName
from rljob_api.status import Status
from rljob_operator import names
from rljob_operator.cluster.addresses import addresses
from rljob_operator.cluster.container import Container, containers, machine_places, mounts
from rljob_operator.cluster.workdir import WorkDir
from rljob_operator.decide import Decision, Goal, PodStart
from rljob_operator.render import render
from rljob_operator.settings import Settings

FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}}
SPEC: dict[str, Any] = {
    "model": {"source": "a/b", "tokenSecretRef": {"name": "hf", "key": "token"}},
    "reward": {"python": {"module": "mine", "function": "f", "configMapRef": {"name": "scorers"}}},
    "trainer": {
        "env": [{"name": "HF_HOME", "value": "/my/own"}, {"name": "KEY", **FROM_SECRET}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "template": {
            "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "datasets"}}]}
        },
    },
}


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[WorkDir]:
    place = WorkDir(tmp_path)
    place.open()
    yield place
    place.close()


def trainer(work_dir: WorkDir) -> Container:
    return started(work_dir, **SPEC)[-1]


def started(work_dir: WorkDir, **spec: Any) -> list[Container]:
    job = a_job(Status(attempt=an_attempt()), **spec)
    start = PodStart(RoleName.TRAINER, 0, names.trainer_pod("demo", 0, 1))
    manifests = render(job, Decision(Goal.RUN, "", start=(start,)), "token", Settings())
    secret = work_dir.config / names.control_secret("demo", job.metadata.uid)
    secret.mkdir()
    (secret / names.CONTROL_TOKEN_KEY).write_text("token")
    places = machine_places(job, work_dir, work_dir.path / "cache", addresses(job, work_dir.path))
    return containers(manifests[-1], work_dir, places)


def test_home_caches_and_what_a_cluster_has_in_secrets_are_the_users_own(work_dir: WorkDir) -> None:
    env = trainer(work_dir).env
    assert not {"HOME", "VLLM_CACHE_ROOT", "PYTHONPATH", "HF_TOKEN", "KEY"} & env.keys()
    assert (env["HF_HOME"], env[names.CONTROL_TOKEN_ENV]) == ("/my/own", "token")


def test_conversions_are_kept_where_the_users_environment_says(work_dir: WorkDir) -> None:
    both = started(work_dir, backend="megatron")
    assert [one.spec["name"] for one in both] == ["convert", "trainer"]
    assert [one for one in both if names.CONVERSIONS_ENV in one.env] == []


def test_or_where_the_job_says(work_dir: WorkDir) -> None:
    own = {"env": [{"name": names.CONVERSIONS_ENV, "value": "/my/own"}]}
    both = started(work_dir, backend="megatron", trainer=own)
    assert {one.env[names.CONVERSIONS_ENV] for one in both} == {"/my/own"}


def test_only_the_run_and_the_storage_are_mounted(work_dir: WorkDir) -> None:
    one = trainer(work_dir)
    found = mounts(one.manifest, one.spec, work_dir)
    assert found == {
        names.RUN_PATH: str(work_dir.config / "demo-run-1"),
        names.CLAIM_PATH: str(work_dir.storage),
    }


def test_the_job_that_one_begins_with_is_looked_for_beside_its_work_directory(work_dir: WorkDir) -> None:
    job = a_job(Status(attempt=an_attempt()), initialCheckpoint={"rljobName": "warm"})
    places = machine_places(job, work_dir, work_dir.path / "cache", addresses(job, work_dir.path))
    beside = str(work_dir.path.parent / "warm" / "storage")
    assert places[names.initial_path("warm")] == places[names.job_path("warm")] == beside
