"""The Events that the operator posts come in order, whoever shows them: by kubectl, and by `kubectl rljob`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import manifest
from kube.api import Api
from kube.programs import programs
from kubectl.program import PROGRAM
from rljob_api.base import Manifest
from rljob_api.reasons import Reason
from rljob_operator.cluster.event_posts import event
from rljob_operator.cluster.resources import EVENTS, JOBS
from rljob_operator.happenings import Happening
from rljob_operator.jobs import Stored, Told

JOB = "in-order"
START = 1_700_000_000.0
NOTES = [f"happening {number:02}" for number in range(20)]
"""Their Events are kept by name, which says nothing of the order."""


@pytest.fixture
def job(api_server: Api) -> Iterator[Stored]:
    """In the namespace `default`, without any Events."""
    made = api_server.post(JOBS.path("default"), manifest() | {"metadata": {"name": JOB}})
    assert made.code == 201, made.message
    yield Stored(made.body["metadata"]["uid"], 1, 1, False, Told("Training", 0, 0, 0, None), "{}")
    for one in posted(api_server):
        api_server.delete(EVENTS.path("default", one["metadata"]["name"]))
    api_server.delete(JOBS.path("default", JOB))


def posted(api: Api) -> list[Manifest]:
    found = api.get(EVENTS.path("default")).body["items"]
    return [one for one in found if one["involvedObject"]["name"] == JOB]


def happen(api: Api, job: Stored, seconds: float) -> None:
    """All of them, so far apart."""
    for number, note in enumerate(NOTES):
        told = Happening("Normal", Reason.ALL_READY, "Watch", note)
        body = event(("default", JOB), job, told, "test", START + number * seconds)
        made = api.post(EVENTS.path("default"), body)
        assert made.code == 201, made.message


def shown(*command: str | Path) -> list[str]:
    """The notes, as they come."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return re.findall(r"happening \d\d", said.stdout)


def test_kubectl_shows_events_in_order(api_server: Api, job: Stored) -> None:
    happen(api_server, job, seconds=1.5)
    assert [one["message"] for one in posted(api_server)] != NOTES
    kubectl: list[str | Path] = [programs("kubectl")["kubectl"], "--kubeconfig", api_server.kubeconfig]
    assert shown(*kubectl, "describe", "rljob", JOB) == NOTES
    assert shown(*kubectl, "events", f"--for=rljob/{JOB}") == NOTES
    assert shown(*kubectl, "get", "events", "--sort-by=.lastTimestamp") == NOTES


def test_rljob_shows_events_of_one_second_in_order(
    api_server: Api, job: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(api_server, job, seconds=0.01)
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.setenv("COLUMNS", "200")
    assert shown(PROGRAM, "events", JOB) == NOTES
