"""The pieces of the local cluster, one by one."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from builders import a_job, a_status, true
from rljob_api.status import CheckpointStatus, ConditionType, Phase, RolloutStatus
from rljob_operator import names
from rljob_operator.cluster.addresses import TooManyPodsError, addresses
from rljob_operator.cluster.gpus import Gpus, gpus_of_this_machine
from rljob_operator.cluster.probes import Health, health
from rljob_operator.cluster.substitution import substitute
from rljob_operator.cluster.workdir import FOLDERS, LOCK, WorkDir, WorkDirError

HERE = Path()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/lib/rljob/jobs/demo/step_3", "/demo/storage/step_3"),
        ("/var/lib/rljob/cache", "/home/cache"),
        ("/var/lib/rljobs", "/var/lib/rljobs"),
        ("/data/var/lib/rljob", "/data/var/lib/rljob"),
        ('["demo-rollout-1.demo","demo-rollout-11.demo"]', '["127.0.0.1","demo-rollout-11.demo"]'),
        ("http://demo-rollout-1.demo:80/x", "http://127.0.0.1:80/x"),
        ("demo-rollout-1.demo-2", "demo-rollout-1.demo-2"),
    ],
)
def test_substitution_replaces_whole_names_and_the_longest_first(text: str, expected: str) -> None:
    places = {
        "/var/lib/rljob": "/work",
        "/var/lib/rljob/jobs/demo": "/demo/storage",
        "/var/lib/rljob/cache": "/home/cache",
        "demo-rollout-1.demo": "127.0.0.1",
    }
    assert substitute(text, places) == expected


def test_what_was_put_in_is_not_replaced_again() -> None:
    assert substitute("/a", {"/a": "/b/a", "/b": "/c"}) == "/b/a"


def test_each_host_has_an_address_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    job = a_job(trainer={"numNodes": 2}, rollout={"replicas": 3})
    found = addresses(job, tmp_path)
    assert found == addresses(job, tmp_path)
    assert len(set(found.values())) == 5
    assert all(address.startswith("127.") for address in found.values())


def test_more_pods_than_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooManyPodsError, match="at most 254 pods run"):
        addresses(a_job(rollout={"replicas": 254}), tmp_path)


def test_gpus_are_handed_out_whole_and_come_back() -> None:
    gpus = Gpus(["0", "1", "2"])
    assert gpus.take("a", 2) == ["0", "1"]
    assert gpus.take("b", 2) == "needs 2 GPUs, and 1 of this machine's 3 are free"
    gpus.give_back("a")
    assert gpus.take("b", 2) == ["0", "1"]


def test_gpus_of_this_machine_are_those_that_are_visible(tmp_path: Path) -> None:
    for name in ("nvidia1", "nvidia0", "nvidia10", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert gpus_of_this_machine({}, tmp_path) == ["0", "1", "10"]
    assert gpus_of_this_machine({"CUDA_VISIBLE_DEVICES": "3, 1"}, tmp_path) == ["3", "1"]
    assert gpus_of_this_machine({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []


class Patient:
    """A real HTTP server whose answers a test decides."""

    def __init__(self) -> None:
        self.code = 200
        patient = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(patient.code)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.port = self.server.server_port


@pytest.fixture
def patient() -> Iterator[Patient]:
    patient = Patient()
    thread = threading.Thread(target=patient.server.serve_forever, args=(0.01,))
    thread.start()
    yield patient
    patient.server.shutdown()
    patient.server.server_close()
    thread.join()


def probed(patient: Patient, *kinds: str) -> Health:
    get = {"path": "/", "port": patient.port}
    spec = {"httpGet": get, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 3}
    return health({f"{kind}Probe": spec for kind in kinds}, now=0)


def looks(state: Health, times: range) -> Health:
    for now in times:
        state = state.look("127.0.0.1", now)
    return state


def test_a_pod_is_ready_once_it_answers_and_no_longer_after_three_silences(patient: Patient) -> None:
    state = probed(patient, "startup", "readiness")
    assert not state.ready
    state = looks(state, range(2))
    assert state.ready
    patient.code = 503
    assert looks(state, range(2, 4)).ready
    assert not looks(state, range(2, 5)).ready


def test_liveness_counts_only_after_the_start(patient: Patient) -> None:
    patient.code = 503
    state = looks(probed(patient, "startup", "liveness"), range(2))
    assert not state.dead
    patient.code = 200
    state = looks(state, range(2, 4))
    patient.code = 503
    assert not looks(state, range(4, 6)).dead
    assert looks(state, range(4, 7)).dead.startswith("liveness probe / on port")


def test_a_pod_that_never_starts_is_given_up(patient: Patient) -> None:
    patient.code = 503
    assert looks(probed(patient, "startup"), range(3)).dead.startswith("startup probe")


def test_a_probe_is_not_made_before_its_time(patient: Patient) -> None:
    state = looks(probed(patient, "readiness"), range(1))
    patient.code = 503
    assert state.look("127.0.0.1", 0.5) == state


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[WorkDir]:
    work_dir = WorkDir(tmp_path)
    work_dir.open()
    yield work_dir
    work_dir.close()


def test_identity_outlives_a_run_and_the_generation_rises_with_the_spec(work_dir: WorkDir) -> None:
    first = work_dir.identify(a_job(), HERE).metadata
    same = work_dir.identify(a_job(), HERE).metadata
    other = work_dir.identify(a_job(algorithm={"grpo": {"maxSteps": 20}}), HERE).metadata
    assert first.uid == same.uid == other.uid != a_job().metadata.uid
    assert [one.generation for one in (first, same, other)] == [1, 1, 2]


OF_ANOTHER_MODEL: dict[str, Any] = {"model": {"source": "Qwen/Qwen3-8B"}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            OF_ANOTHER_MODEL,
            r"^spec\.model: the model of a job cannot change, its checkpoints are of this model: create",
        ),
        ({"backend": "megatron"}, r"^spec\.backend: the backend of a job cannot change, its checkpoints are"),
    ],
    ids=["model", "backend"],
)
def test_what_the_checkpoints_of_a_job_are_of_does_not_change(
    work_dir: WorkDir, change: dict[str, Any], sentence: str
) -> None:
    work_dir.identify(a_job(), HERE)
    work_dir.write_status(a_status(checkpoint=CheckpointStatus(count=1)))
    for _ in range(2):
        with pytest.raises(WorkDirError, match=sentence):
            work_dir.identify(a_job(**change), HERE)
    work_dir.identify(a_job(**change, resume={"policy": "Never"}), HERE)


def test_a_job_without_a_checkpoint_may_become_one_of_another_model(work_dir: WorkDir) -> None:
    work_dir.identify(a_job(), HERE)
    work_dir.write_status(a_status())
    assert work_dir.identify(a_job(**OF_ANOTHER_MODEL), HERE).metadata.generation == 2


def test_a_cluster_forbids_more_changes_than_this_machine(work_dir: WorkDir) -> None:
    work_dir.identify(a_job(), HERE)
    work_dir.write_status(a_status(checkpoint=CheckpointStatus(count=1)))
    work_dir.identify(a_job(trainer={"numProcPerNode": 2}, checkpoint={"storage": {"size": "1Gi"}}), HERE)


def test_the_folder_of_the_jobs_file_is_remembered_while_it_is_there(
    work_dir: WorkDir, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    work_dir.identify(a_job(), folder)
    assert WorkDir(work_dir.path).job_folder() == folder
    folder.rmdir()
    assert WorkDir(work_dir.path).job_folder() == Path.cwd()


def test_a_complete_job_is_over_unless_its_spec_changed(work_dir: WorkDir) -> None:
    work_dir.identify(a_job(), HERE)
    done = [ConditionType.SUCCESS_CRITERIA_MET, ConditionType.COMPLETE]
    work_dir.write_status(a_status(conditions=[true(one) for one in done], phase=Phase.COMPLETE))
    same = work_dir.identify(a_job(), HERE).status
    longer = work_dir.identify(a_job(algorithm={"grpo": {"maxSteps": 20}}), HERE).status
    assert same is not None
    assert longer is not None
    assert [one.type for one in same.conditions] == done
    assert [one.type for one in longer.conditions] == [ConditionType.SUSPENDED]


def test_nobody_took_the_servers_of_a_run_that_was_killed(work_dir: WorkDir) -> None:
    work_dir.identify(a_job(), HERE)
    work_dir.write_status(a_status(rollout=RolloutStatus(present=[0])))
    again = work_dir.identify(a_job(), HERE).status
    assert again is not None
    assert again.rollout.present == []


def test_the_work_directory_of_another_job_is_refused(work_dir: WorkDir) -> None:
    identity = json.dumps({"name": "other", "uid": "u", "spec": ""})
    (work_dir.path / "job.json").write_text(identity)
    with pytest.raises(WorkDirError, match="belongs to the job other, not to demo"):
        work_dir.identify(a_job(), HERE)


def test_a_work_directory_is_cleared_of_all_but_its_lock(work_dir: WorkDir) -> None:
    work_dir.identify(a_job(), HERE)
    (work_dir.storage / "samples").mkdir()
    lock = (work_dir.path / "lock").stat().st_ino
    work_dir.clear()
    assert (work_dir.path / "lock").stat().st_ino == lock
    assert sorted(path.name for path in work_dir.path.rglob("*")) == sorted([*FOLDERS, "lock"])


def test_names_fit_what_kubernetes_allows() -> None:
    longest = names.rollout_pod("a" * 40, 4095, 99_999)
    assert len(longest) <= 63


def test_who_asks_whether_a_job_is_run_keeps_nobody_from_running_it(tmp_path: Path) -> None:
    """It has the lock while it asks, here for longer than it takes."""
    work_dir, asks = WorkDir(tmp_path), (tmp_path / LOCK).open("w")
    fcntl.flock(asks, fcntl.LOCK_SH)
    threading.Timer(0.1, asks.close).start()
    work_dir.open()
    assert WorkDir(tmp_path).is_run()
    work_dir.close()
    assert not WorkDir(tmp_path).is_run()
