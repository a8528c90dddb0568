"""`kubectl rljob` against a real API server. No operator runs: the test writes the status that one would write."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders import manifest
from kube.api import Api
from kubectl.program import PROGRAM, ask_cluster_of, running
from rljob_api.base import Manifest
from rljob_cli.errors import UserMistake
from rljob_cli.kubectl.jobs import Jobs
from rljob_cli.kubectl.log_stream import Excerpt
from waiting import WITHIN_S

ROOT = Path(__file__).parents[2]
JOBS = "/apis/rljob.io/v1alpha1/namespaces/default/rljobs"


@dataclass(frozen=True)
class Kubectl:
    api: Api
    name: str

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"KUBECONFIG": str(self.api.kubeconfig), "COLUMNS": "200"}
        return subprocess.run(
            [PROGRAM, *arguments],
            env=os.environ | known | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def tell(self, phase: str, condition: str = "", message: str = "", latest: int = 0) -> None:
        """Write a status, as the operator would."""
        status: Manifest = {"phase": phase, "message": message, "progress": {"step": 3, "display": "3/10"}}
        if latest:
            facts = {"step": latest, "time": "2026-01-01T00:00:00Z", "path": "/storage", "bytes": 9}
            held = {"verified": True, "hasRng": True, "hasOptimizer": True, "layout": "tp1-pp1-dp1"}
            status["checkpoint"] = {"latest": facts | held, "count": 1}
        if condition:
            now = "2026-01-01T00:00:00Z"
            truth = {"type": condition, "status": "True", "reason": "Because", "lastTransitionTime": now}
            status["conditions"] = [truth]
        answer = self.api.merge(f"{JOBS}/{self.name}/status", {"status": status})
        assert answer.code == 200, answer.message

    @property
    def job(self) -> Manifest:
        return self.api.get(f"{JOBS}/{self.name}").body


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    name = f"kubectl-{abs(hash(request.node.name)) % 10**8}"
    job = manifest()
    job["metadata"] = {"name": name}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    return tmp_path / "job.yaml"


@pytest.fixture
def kubectl(api_server: Api, file: Path) -> Iterator[Kubectl]:
    found = Kubectl(api_server, json.loads(file.read_text())["metadata"]["name"])
    yield found
    api_server.delete(f"{JOBS}/{found.name}")


@pytest.fixture
def submitted(kubectl: Kubectl, file: Path) -> Kubectl:
    assert kubectl("submit", str(file)).returncode == 0
    return kubectl


def test_a_submitted_job_is_in_the_cluster(kubectl: Kubectl, file: Path) -> None:
    done = kubectl("submit", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"rljob.rljob.io/{kubectl.name} created in namespace default" in done.stdout
    assert kubectl.job["spec"]["model"]["source"] == "builtin:addition"


def test_a_job_with_a_mistake_does_not_reach_the_cluster(kubectl: Kubectl, file: Path) -> None:
    broken = json.loads(file.read_text())
    broken["spec"]["rollout"] = {"replicas": 0}
    file.write_text(json.dumps(broken))
    done = kubectl("submit", str(file))
    assert done.returncode == 2
    assert "spec.rollout.replicas" in done.stderr
    assert "Traceback" not in done.stderr
    assert kubectl.api.get(f"{JOBS}/{kubectl.name}").code == 404


def test_files_that_only_this_machine_has_are_warned_of_and_the_job_is_created(
    kubectl: Kubectl, file: Path
) -> None:
    job = json.loads(file.read_text())
    job["spec"]["data"] = {"train": {"source": "./questions.jsonl"}}
    file.write_text(json.dumps(job))
    done = kubectl("submit", str(file))
    assert (done.returncode, "created in namespace default" in done.stdout) == (0, True)
    assert re.match(
        r"Warning: .*job\.yaml:\d+:\d+: spec\.data\.train\.source: pods have no \./que", done.stderr
    )


def test_a_namespace_that_is_not_there_is_named(kubectl: Kubectl, file: Path) -> None:
    done = kubectl("submit", str(file), "--namespace", "nowhere")
    told = "there is no namespace nowhere; create it, or name another one with -n\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_submitting_twice_says_what_to_do(submitted: Kubectl, file: Path) -> None:
    done = submitted("submit", str(file))
    assert done.returncode == 2
    assert "is already there in namespace default; delete it first" in done.stderr


@pytest.mark.parametrize(("condition", "code"), [("Complete", 0), ("Failed", 1)])
def test_wait_ends_with_the_job_and_tells_how(submitted: Kubectl, condition: str, code: int) -> None:
    submitted.tell("Training")
    assert submitted.api.kubeconfig is not None
    with running(submitted.api.kubeconfig, "wait", submitted.name) as waiting:
        assert waiting.stderr is not None
        assert "Training" in waiting.stderr.readline()
        submitted.tell(condition, condition, "why it ended")
        assert "why it ended" in waiting.stderr.read()
        assert waiting.wait(WITHIN_S) == code


@pytest.mark.parametrize(("condition", "code"), [("Complete", 0), ("Failed", 1)])
def test_submit_stays_until_the_end_when_it_is_told_to(
    kubectl: Kubectl, file: Path, condition: str, code: int
) -> None:
    with running(kubectl.api.kubeconfig, "submit", str(file), "--wait") as submitting:
        said, told = submitting.stdout, submitting.stderr
        assert said is not None
        assert told is not None
        assert f"{kubectl.name} created" in said.readline()
        kubectl.tell("Training")
        assert any("Training" in line for line in told)
        kubectl.tell(condition, condition, "why it ended")
        assert "why it ended" in told.read()
        assert submitting.wait(WITHIN_S) == code


def test_checkpoints_are_told_of_to_people_and_to_programs(submitted: Kubectl) -> None:
    none = submitted("checkpoints", submitted.name)
    assert (none.returncode, "has no checkpoint yet" in none.stderr) == (2, True)
    submitted.tell("Training", latest=3)
    told = submitted("checkpoints", submitted.name).stdout.splitlines()
    assert told[0].startswith("step      3, ")
    assert told[1:] == [
        "path      /storage",
        "size      9 B",
        "verified  yes",
        "holds     model, RNG, optimizer",
        "layout    tp1-pp1-dp1",
        "kept      1",
    ]
    read = json.loads(submitted("checkpoints", submitted.name, "--output=json").stdout)
    assert (read["latest"]["step"], read["count"]) == (3, 1)


def test_wait_gives_up_after_its_timeout(submitted: Kubectl) -> None:
    done = submitted("wait", submitted.name, "--timeout", "1")
    assert (done.returncode, "is not over after 1 s" in done.stderr) == (3, True)


def test_suspend_and_resume_set_the_field(submitted: Kubectl) -> None:
    assert "`kubectl rljob resume" in submitted("suspend", submitted.name).stdout
    assert submitted.job["spec"]["suspend"] is True
    assert submitted("resume", submitted.name).returncode == 0
    assert submitted.job["spec"]["suspend"] is False
    assert "is not suspended, nothing was changed" in submitted("resume", submitted.name).stdout


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
def test_what_is_over_is_neither_suspended_nor_resumed(submitted: Kubectl, condition: str) -> None:
    submitted.tell(condition, condition, latest=3)
    for command, words in (
        ("suspend", "there is nothing to suspend"),
        ("resume", f"`initialCheckpoint: {{rljobName: {submitted.name}, step: 3}}`"),
    ):
        done = submitted(command, submitted.name)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{submitted.name} is {condition.lower()}" in done.stderr
        assert words in done.stderr
    assert submitted.job["spec"]["suspend"] is False


def test_status_shows_one_screen_or_json(submitted: Kubectl) -> None:
    submitted.tell("Training", message="1 of 2 pods cannot be scheduled")
    shown = submitted("status", submitted.name).stdout
    assert "Training" in shown
    assert "3/10" in shown
    assert "1 of 2 pods cannot be scheduled" in shown
    assert json.loads(submitted("status", submitted.name, "-o", "json").stdout)["phase"] == "Training"


def test_events_of_the_job_and_its_pods_come_in_order(submitted: Kubectl) -> None:
    pod = f"{submitted.name}-trainer-0-1"
    for when, kind, name in (("02", "Pod", pod), ("01", "RLJob", submitted.name), ("03", "Pod", "stranger")):
        event: Manifest = {
            "metadata": {"name": f"{name}.{when}", "namespace": "default"},
            "involvedObject": {"kind": kind, "name": name, "namespace": "default"},
            "reason": f"Reason{when}",
            "message": "[/bin/sh] it happened",
            "type": "Normal",
            "lastTimestamp": f"2026-01-01T00:00:{when}Z",
        }
        assert submitted.api.post("/api/v1/namespaces/default/events", event).code == 201
    shown = submitted("events", submitted.name).stdout
    assert shown.index("Reason01") < shown.index("Reason02")
    assert shown.count("[/bin/sh] it happened") == 2
    assert "stranger" not in shown
    told = json.loads(submitted("events", submitted.name, "--output=json").stdout)
    assert [(one["reason"], "managedFields" in one["metadata"]) for one in told] == [
        ("Reason01", False),
        ("Reason02", False),
    ]


def test_logs_before_any_pod_say_where_to_look(submitted: Kubectl) -> None:
    done = submitted("logs", submitted.name)
    assert (done.returncode, "no pod of" in done.stderr) == (2, True)


def test_the_api_server_reads_the_time_from_which_a_cut_log_is_taken_up(
    api_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client has no such argument. A pod without a node has an empty log."""
    ask_cluster_of(api_server.kubeconfig, monkeypatch)
    pod = {"metadata": {"name": "no-node"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    account = {"metadata": {"name": "default"}}  # no controller makes it here
    made = api_server.post("/api/v1/namespaces/default/serviceaccounts", account)
    assert made.code in (201, 409), made.message
    created = api_server.post("/api/v1/namespaces/default/pods", pod)
    assert created.code == 201, created.message
    try:
        jobs = Jobs("default", None)
        assert list(jobs.log("no-node", "a", Excerpt(since="2026-01-01T00:00:07Z", follow=True))) == []
        with pytest.raises(UserMistake, match="yesterday"):
            list(jobs.log("no-node", "a", Excerpt(since="yesterday", follow=True)))
    finally:
        api_server.delete("/api/v1/namespaces/default/pods/no-node?gracePeriodSeconds=0")


def test_delete_names_what_stays_and_how_to_go_on_from_it(submitted: Kubectl) -> None:
    submitted.tell("Failed", "Failed", latest=3)
    done = submitted("delete", submitted.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"its checkpoints stay in the claim {submitted.name}-storage. " in done.stdout
    assert (
        f"under another name with `initialCheckpoint: {{rljobName: {submitted.name}, step: 3}}`"
        in done.stdout
    )
    assert submitted.api.get(f"{JOBS}/{submitted.name}").code == 404


@pytest.mark.parametrize("command", ["status", "wait", "events", "delete"])
def test_a_job_that_is_not_there_is_named_with_its_namespace(kubectl: Kubectl, command: str) -> None:
    done = kubectl(command, "no-such-job")
    assert done.returncode == 2
    assert "there is no `no-such-job` in namespace default" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_cluster_the_next_step_is_told(kubectl: Kubectl, tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    done = kubectl("status", "x", KUBECONFIG=str(nowhere))
    advice = "set KUBECONFIG, or check --context"
    told = f"no cluster to talk to: no kubeconfig was found at {nowhere}; {advice}\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_a_server_that_does_not_answer_is_named(kubectl: Kubectl, tmp_path: Path) -> None:
    config = json.loads(kubectl.api.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "config").write_text(json.dumps(config))
    done = kubectl("status", "x", KUBECONFIG=str(tmp_path / "config"))
    assert done.returncode == 2
    assert "cannot reach the API server at https://127.0.0.1:1: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("broken", [b"a: [", b"5", b"\xff\xfe"], ids=["not YAML", "not a mapping", "binary"])
def test_a_kubeconfig_that_cannot_be_read_is_said(kubectl: Kubectl, tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "config").write_bytes(broken)
    done = kubectl("status", "x", KUBECONFIG=str(tmp_path / "config"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("the kubeconfig cannot be read: ")


def test_a_context_that_is_not_there_is_named(kubectl: Kubectl) -> None:
    done = kubectl("status", "x", "--context", "nowhere")
    assert (done.returncode, "nowhere" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
