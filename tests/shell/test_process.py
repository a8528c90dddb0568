"""The operator's process beside its jobs: what it is given, what it serves, what it hears from rank 0."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import math
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builders import a_checkpoint, a_progress
from rljob_api.progress import EXIT_PREEMPTED, Ending, Progress, TrainPhase
from rljob_operator import names
from rljob_operator.__main__ import EXIT_MISTAKE
from rljob_operator.cluster.polling import LONGEST_ANSWER, Answers, Polling

from .kubelet import Kubelet
from .places import Place
from .proxy import Asked, Fate

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"
NEXT_TRAINER = "demo-trainer-0-2"
ADDRESS, METRICS_PORT = "127.0.77.1", 18081


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def rank_0(answer: Answer) -> Iterator[None]:
    """Answers where a pod's rank 0 would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # whoever asked may have heard enough
                answer(self)

        def log_message(self, *args: object) -> None:
            """Nothing: pytest shows enough."""

    server = ThreadingHTTPServer((ADDRESS, names.PROGRESS_PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def telling(
    told: Progress, code: int = 200, body: Callable[[bytes], bytes] = bytes, **headers: str
) -> Answer:
    """It tells that, perhaps in a strange way."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body(told.model_dump_json(by_alias=True).encode()))

    return answer


def test_what_rank_0_tells_reaches_the_status_and_the_metrics(place: Place, kubelet: Kubelet) -> None:
    place.operator("--http-host", ADDRESS, "--http-port", str(METRICS_PORT))
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    with rank_0(telling(a_progress(step=3, phase=TrainPhase.GENERATE, metrics={"reward": 0.5}))):
        kubelet.run(TRAINER, ROLLOUT, address=ADDRESS)
        status = place.wait_for_phase("Training")
    assert status["progress"]["display"] == "3/10"
    assert status["progress"]["metrics"] == [{"name": "reward", "value": "0.5"}]
    # The operator may hear of its own write later than we read it.
    told = place.until(lambda: metrics_with('rljob_jobs{phase="Training"} 1.0'))
    assert 'rljob_operator_api_requests_total{verb="POST"}' in told


def test_what_a_trainer_said_last_stays_known_when_its_pod_is_gone(place: Place, kubelet: Kubelet) -> None:
    """It had finished and saved more than it was last asked about."""
    place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    with rank_0(telling(a_progress(step=3))):
        kubelet.run(TRAINER, ROLLOUT, address=ADDRESS)
        place.wait_for_phase("Training")
    last = a_progress(step=5, checkpoint=a_checkpoint(5))
    kubelet.end(TRAINER, Ending.PREEMPTED, EXIT_PREEMPTED, progress=last)
    kubelet.remove(TRAINER)
    place.wait_for_pods(NEXT_TRAINER, ROLLOUT)
    kubelet.run(NEXT_TRAINER, address=ADDRESS)
    status = place.until_status(lambda status: status["trainer"]["ready"] == "1/1")
    assert (status["progress"]["step"], status["checkpoint"]["latest"]["step"]) == (5, 5)


async def heard_of(answer: Answer) -> tuple[Progress | None, list[str]]:
    """What is known of rank 0 after it was asked twice, and the paths that were asked for."""
    answers, paths, asked = Answers(), [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def noting(request: BaseHTTPRequestHandler) -> None:
        paths.append(request.path)
        if len(paths) > 1:  # the first answer was dealt with
            loop.call_soon_threadsafe(asked.set)
        answer(request)

    key = ("default", "demo")
    polling = asyncio.create_task(
        Polling(answers, lambda: [(key, "uid", ADDRESS)], lambda *_: None, 0.1).run()
    )
    with rank_0(noting):
        async with asyncio.timeout(60):
            await asked.wait()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
    return answers.get(key, "uid"), paths


TOLD = a_progress(step=3)


@pytest.mark.parametrize(
    "answer",
    [
        telling(TOLD, 302, Location="/elsewhere"),
        telling(TOLD, 500),
        telling(TOLD, body=gzip.compress, Content_Encoding="gzip"),
        telling(TOLD, body=lambda told: b" " * LONGEST_ANSWER + told),
        telling(TOLD.model_copy(update={"estimated_remaining_seconds": math.inf})),
        telling(TOLD.model_copy(update={"step": 10**30})),
        telling(TOLD.model_copy(update={"checkpoint": a_checkpoint(time="soon")})),
    ],
    ids=["redirect", "code", "compressed", "long", "infinite", "number", "time"],
)
def test_a_hostile_rank_0_is_not_heard(answer: Answer) -> None:
    """Any image may run there; it must not make the operator ask others, or fill its memory."""
    told, paths = asyncio.run(heard_of(answer))
    assert told is None
    assert set(paths) == {names.PROGRESS_URL_PATH}


def test_an_honest_rank_0_is_heard() -> None:
    """The control: the others' answers carry the same. An image from before the job's UID was told is believed."""
    assert asyncio.run(heard_of(telling(TOLD)))[0] == TOLD


def test_what_rank_0_of_another_job_tells_is_not_heard() -> None:
    """Addresses go round: the pod that was there may be gone."""
    mine, of_another = (TOLD.model_copy(update={"job_uid": uid}) for uid in ("uid", "another"))
    assert asyncio.run(heard_of(telling(mine)))[0] == mine
    assert asyncio.run(heard_of(telling(of_another)))[0] is None


def test_of_an_answer_without_end_no_more_is_read_than_an_answer_may_have() -> None:
    sent: Counter[BaseHTTPRequestHandler] = Counter()

    def without_end(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(2**14):
            sent[request] += request.wfile.write(b" " * LONGEST_ANSWER)

    assert asyncio.run(heard_of(without_end))[0] is None
    assert max(sent.values()) < 64 * LONGEST_ANSWER  # as much as sockets hold


def test_what_is_told_at_length_is_cut_short() -> None:
    told = a_progress(detail="x" * 10**6, metrics={f"{number}": 0.0 for number in range(1000)})
    assert (len(told.detail), told.detail[-1], len(told.metrics)) == (1024, "…", 256)


def metrics_with(line: str) -> str:
    """What the operator tells if the line is in it, else nothing."""
    with urllib.request.urlopen(f"http://{ADDRESS}:{METRICS_PORT}/metrics", timeout=300) as answer:
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
def test_wrong_settings_are_a_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    assert str(file) in last_words("--settings", str(file))


def test_a_cluster_that_cannot_be_found_is_a_sentence(tmp_path: Path) -> None:
    assert "kube-config" in last_words("--kubeconfig", str(tmp_path / "nothing"))


def last_words(*given: str) -> str:
    """Of an operator that cannot start with what it was given. A process of its own: it makes all logs its own."""
    done = subprocess.run(
        [sys.executable, "-m", "rljob_operator", *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_MISTAKE
    assert "Traceback" not in done.stderr
    return done.stderr
