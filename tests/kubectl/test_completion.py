"""Completion of `kubectl rljob` as kubectl asks for it, by a program of its own that knows the jobs of a cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import manifest
from kube.api import Api
from kube.programs import programs
from waiting import until

COMPLETE = Path(sys.executable).with_name("kubectl_complete-rljob")
JOBS = "/apis/rljob.io/v1alpha1/namespaces/default/rljobs"


def said(*command: str | Path, kubeconfig: Path = Path("/nowhere")) -> list[str]:
    """Lines on the standard output of a program that succeeds."""
    path = f"{COMPLETE.parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        command,
        env=os.environ | {"KUBECONFIG": str(kubeconfig), "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return [line for line in ended.stdout.splitlines() if line]


def values(lines: list[str]) -> list[str]:
    """The completions without their descriptions, and the directive."""
    return [line.partition("\t")[0] for line in lines]


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["sus"], ["suspend", ":4"]),
        (["logs", "--fo"], ["--follow", ":4"]),
        (["status", "x", "--output", "j"], ["json", ":4"]),
        (["explain", "spec.rollout.rep"], ["spec.rollout.replicas", ":4"]),
        (["submit", "jo"], [":0"]),
        (["nothing", "x"], [":4"]),
    ],
    ids=" ".join,
)
def test_commands_options_and_fields_are_completed(words: list[str], answers: list[str]) -> None:
    assert values(said(COMPLETE, *words)) == answers


def test_without_a_word_every_command_comes_with_its_description() -> None:
    *commands, directive = said(COMPLETE, "")
    assert "status\tShow how a job is doing." in commands
    assert directive == ":4"


@pytest.fixture
def jobs(api_server: Api) -> Iterator[Path]:
    """A kubeconfig of a cluster with two jobs."""
    for name in ("sums-of-two", "stories"):
        assert api_server.post(JOBS, manifest() | {"metadata": {"name": name}}).code == 201
    yield api_server.kubeconfig
    for name in ("sums-of-two", "stories"):
        api_server.delete(f"{JOBS}/{name}")


def test_jobs_of_the_cluster_are_completed(jobs: Path) -> None:
    eventually_said(["sums-of-two", ":4"], COMPLETE, "status", "sums", kubeconfig=jobs)
    assert said(COMPLETE, "logs", "--namespace", "kube-system", "s", kubeconfig=jobs) == [":4"]


def test_kubectl_itself_completes_them(jobs: Path) -> None:
    kubectl = programs("kubectl")["kubectl"]
    assert values(said(kubectl, "__complete", "rljob", "check")) == ["checkpoints", ":4"]
    eventually_said(["stories", ":4"], kubectl, "__complete", "rljob", "delete", "st", kubeconfig=jobs)


def eventually_said(lines: list[str], *command: str | Path, kubeconfig: Path) -> None:
    """A cluster that is too busy to answer in time is passed over: then the tabulator is pressed again."""
    until(lambda: said(*command, kubeconfig=kubeconfig) == lines, f"{command} says {lines}")


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = {"server": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        config = {
            "current-context": "mute",
            "contexts": [{"name": "mute", "context": {"cluster": "mute", "user": "me"}}],
            "clusters": [{"name": "mute", "cluster": server}],
            "users": [{"name": "me", "user": {"token": "x"}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        assert said(COMPLETE, "status", "", kubeconfig=tmp_path / "config") == [":4"]


@pytest.mark.parametrize("broken", ["garbage: [", "5", ""], ids=["not YAML", "not a mapping", "empty"])
def test_a_broken_kubeconfig_is_passed_over(broken: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(broken)
    assert said(COMPLETE, "status", "", kubeconfig=tmp_path / "config") == [":4"]
