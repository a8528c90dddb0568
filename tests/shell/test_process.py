"""The operator's process beside its jobs: what it is given, what it serves, what it hears from rank 0."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from builders import a_progress
from rljob_api.progress import Progress, TrainPhase
from rljob_operator import names
from rljob_operator.__main__ import EXIT_MISTAKE, main

from .kubelet import Kubelet
from .places import Place
from .proxy import Asked, Fate

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"
ADDRESS, METRICS_PORT = "127.0.77.1", 18081


@contextmanager
def rank_0(told: Progress) -> Iterator[None]:
    """Tells its progress where a pod's rank 0 would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told.model_dump_json(by_alias=True).encode())

        def log_message(self, *args: object) -> None:
            """Nothing: pytest shows enough."""

    server = HTTPServer((ADDRESS, names.PROGRESS_PORT), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_rank_0_tells_reaches_the_status_and_the_metrics(place: Place, kubelet: Kubelet) -> None:
    place.operator("--http-host", ADDRESS, "--http-port", str(METRICS_PORT))
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    with rank_0(a_progress(step=3, phase=TrainPhase.GENERATE, metrics={"reward": 0.5})):
        kubelet.run(TRAINER, ROLLOUT, address=ADDRESS)
        status = place.wait_for_phase("Training")
    assert status["progress"]["display"] == "3/10"
    assert status["progress"]["metrics"] == [{"name": "reward", "value": "0.5"}]
    # The operator may hear of its own write later than we read it.
    told = place.until(lambda: metrics_with('rljob_jobs{phase="Training"} 1.0'))
    assert 'rljob_operator_api_requests_total{verb="POST"}' in told


def metrics_with(line: str) -> str:
    """What the operator tells if the line is in it, else nothing."""
    with urllib.request.urlopen(f"http://{ADDRESS}:{METRICS_PORT}/metrics", timeout=30) as answer:
        told = str(answer.read().decode())
    return told if line in told else ""


def test_every_line_of_the_log_is_json_and_names_the_job_it_is_about(place: Place) -> None:
    account = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default"
    place.api.delete(account)
    operator = place.operator()
    uid = place.submit()["metadata"]["uid"]
    place.until(lambda: operator.says("refused"))
    operator.stop()
    refusal = next(line for line in operator.lines() if "refused" in line["message"])
    about = {"job": "demo", "namespace": place.namespace, "uid": uid, "attempt": 1}
    assert about.items() <= refusal.items()


def test_a_pass_that_fails_says_whose_it_was_and_in_which_attempt(place: Place) -> None:
    fates = iter([Fate.FAILED])
    with place.proxied() as proxy:
        proxy.fate = lambda asked: next(fates, Fate.ANSWERED) if is_a_new_pod(asked) else Fate.ANSWERED
        operator = place.operator(proxy=proxy)
        uid = place.submit()["metadata"]["uid"]
        place.wait_for_pods(TRAINER, ROLLOUT)
        operator.stop()
    failure = next(line for line in operator.lines() if "the pass is tried again" in line["message"])
    about = {"job": "demo", "namespace": place.namespace, "uid": uid, "attempt": 1}
    assert about.items() <= failure.items()


def is_a_new_pod(asked: Asked) -> bool:
    return asked.method == "POST" and asked.path.endswith("/pods")


@pytest.mark.parametrize("content", ['{"workers": 0}', '{"wrokers": 3}', "no JSON"])
def test_wrong_settings_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    assert main(["--settings", str(file)]) == EXIT_MISTAKE
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(file) in said


def test_a_cluster_that_cannot_be_found_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--kubeconfig", str(tmp_path / "nothing")]) == EXIT_MISTAKE
    assert "Traceback" not in capsys.readouterr().err
