"""`kubectl rljob logs`: which pod said what, as it says it, until the job is over."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubectl.fake_api_server import JOB, Asked, FakeApiServer
from kubectl.program import running
from rljob_api.failure import RoleName
from rljob_api.status import ConditionType
from waiting import WITHIN_S


@contextmanager
def logs(kubeconfig: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs; it has to end by itself."""
    with running(kubeconfig, "logs", JOB, *options) as process:
        yield process
        process.wait(timeout=WITHIN_S)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


def test_each_line_comes_after_its_pods_name_and_trainers_come_first(
    api: FakeApiServer, kubeconfig: Path
) -> None:
    server = api.start(RoleName.ROLLOUT, 0)
    ranks = [api.start(RoleName.TRAINER, index) for index in (0, 1)]
    api.say(server, "up", None)
    for rank in ranks:
        api.say(rank, "step 1", "step 2", None)
    with logs(kubeconfig, "--tail", "7") as process:
        said, trouble = process.communicate(timeout=WITHIN_S)
    told = [f"[{rank}] step {step}" for rank in ranks for step in (1, 2)]
    assert (said.splitlines(), trouble) == ([*told, f"[{server}] up"], "")
    assert api.asked[0] == Asked(ranks[0], "trainer", "7", since="")


def test_followed_lines_of_several_pods_come_as_they_are_said(api: FakeApiServer, kubeconfig: Path) -> None:
    first, second = (api.start(RoleName.TRAINER, index) for index in (0, 1))
    with logs(kubeconfig, "-f") as process:
        for pod, words in ((first, "one"), (second, "two"), (first, "three"), (second, "four")):
            api.say(pod, words)
            assert line(process) == f"[{pod}] {words}"
        api.over = ConditionType.COMPLETE
        for pod in (first, second):
            api.say(pod, None)
    assert process.returncode == 0


def test_a_pod_that_comes_later_is_followed_from_its_first_line(api: FakeApiServer, kubeconfig: Path) -> None:
    trainer = api.start(RoleName.TRAINER, 0)
    with logs(kubeconfig, "-f", "--tail", "5") as process:
        api.say(trainer, "alone")
        assert line(process) == f"[{trainer}] alone"
        late = api.start(RoleName.ROLLOUT, 1)
        api.say(late, "here I am")
        assert line(process) == f"[{late}] here I am"
        api.over = ConditionType.FAILED
        api.say(trainer, None)
        api.say(late, None)
    assert [asked.tail for asked in api.asked if not asked.since] == ["5", ""]


def test_a_stream_that_is_cut_is_taken_up_where_it_stopped(api: FakeApiServer, kubeconfig: Path) -> None:
    """Lines that are alike and in one second are told apart; so they are once the log has ended."""
    trainer = api.start(RoleName.TRAINER, 0)
    log = api.logs[trainer]
    api.say(trainer, "older", "a", "a", "a", "b")
    with logs(kubeconfig, "-f", "--tail", "5") as process:
        assert [line(process) for _ in range(5)] == [f"[{trainer}] {word}" for word in ("older", *"aaab")]
        api.refusals = 1
        log.cut()
        api.say(trainer, "a", "c")
        assert [line(process) for _ in range(2)] == [f"[{trainer}] {word}" for word in "ac"]
        api.over = ConditionType.FAILED
        log.cut()
        api.say(trainer, "last words", None)
        said, trouble = process.communicate(timeout=WITHIN_S)
    assert said == f"[{trainer}] last words\n"
    assert [asked.tail for asked in api.asked][:2] == ["5", ""]
    refused, answered = trouble.splitlines()
    assert refused.startswith("the API server answered 503: not now; ")
    assert answered == "the API server answers again"


def test_following_ends_with_the_job_even_if_a_log_does_not(api: FakeApiServer, kubeconfig: Path) -> None:
    silent = api.start(RoleName.TRAINER, 0)
    with logs(kubeconfig, "-f") as process:
        api.say(silent, "last words")
        assert line(process) == f"[{silent}] last words"
        api.over = ConditionType.COMPLETE
    assert process.returncode == 0


def test_a_pod_that_is_gone_before_it_is_read_is_said_and_the_others_are_shown(
    api: FakeApiServer, kubeconfig: Path
) -> None:
    gone, stays = (api.start(RoleName.TRAINER, index) for index in (0, 1))
    del api.logs[gone]
    api.say(stays, "still here", None)
    with logs(kubeconfig) as process:
        said, trouble = process.communicate(timeout=WITHIN_S)
    assert (said, process.returncode) == (f"[{stays}] still here\n", 0)
    assert trouble.startswith(f"[{gone}] there is no `{gone}` in namespace default")


def test_a_role_that_does_not_exist_is_refused_and_one_without_a_pod_is_named(
    api: FakeApiServer, kubeconfig: Path
) -> None:
    api.start(RoleName.TRAINER, 0)
    for role, words in (("trainr", "'trainr' is not one of"), ("rollout", "no rollout pod of")):
        with logs(kubeconfig, "--role", role) as process:
            _, trouble = process.communicate(timeout=WITHIN_S)
        assert (process.returncode, words in trouble) == (2, True), trouble


def test_only_the_role_that_is_asked_for_is_shown(api: FakeApiServer, kubeconfig: Path) -> None:
    for role in RoleName:
        api.say(api.start(role, 0), f"I am a {role.value}", None)
    with logs(kubeconfig, "--role", "rollout") as process:
        said, _ = process.communicate(timeout=WITHIN_S)
    assert said == f"[{JOB}-rollout-0] I am a rollout\n"
