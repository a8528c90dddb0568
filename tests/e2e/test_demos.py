"""The demos, which `make test` does not run: each can be imported, and would run a job that is valid."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from e2e import demo, picture
from e2e.local_job import LocalJob
from e2e_cluster import demo as cluster_demo
from kube import packages
from rljob_api.job import RLJob
from rljob_cli.errors import UserMistake
from rljob_cli.load import load_job

MAKEFILE = demo.REPOSITORY / "Makefile"


def test_the_preemption_demo_strikes_its_job_before_the_last_step(tmp_path: Path) -> None:
    job = demo.begun(tmp_path, start=False)
    last = RLJob.parse(job.manifest).spec.algorithm.grpo.max_steps
    at = [at for at, _, _ in demo.BLOWS]
    assert at == sorted(set(at))
    assert at[-1] < last == demo.LAST


def test_the_preemption_demo_gives_each_step_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done = -1

    def next_step(happens: Callable[[], bool]) -> None:
        nonlocal done
        assert not happens()
        done += 1
        assert happens(), "no more is waited for at once"

    monkeypatch.setattr(demo, "step", lambda _: done)
    demo._reach(cast("LocalJob", SimpleNamespace(wait_for=next_step)), 12)
    assert done == 12


def test_a_demo_that_does_not_go_on_says_so_in_a_sentence_and_leaves_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Job")
    monkeypatch.setattr(demo, "JOB", tmp_path / "bad.yaml")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        demo.main()
    (alone,) = tmp_path.glob("rljob-demo-*/alone")
    assert ended.value.code == f"demo-preemption: the job did not begin; its logs stay in {alone}"
    assert (alone / "rljob.log").read_text()


def test_the_picture_is_drawn_in_the_middle_of_its_job() -> None:
    spec = load_job(picture.ROOT / picture.EXAMPLE).spec
    assert spec.algorithm.grpo.max_steps > picture.STEP


def test_the_cluster_demo_reads_its_job_before_it_makes_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    class BeginsError(Exception):
        pass

    def begin() -> None:
        raise BeginsError

    monkeypatch.setattr(packages, "install", begin)
    (job,) = re.findall(r"^JOB \?= (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    with pytest.raises(BeginsError):
        cluster_demo.main(job)
    with pytest.raises(UserMistake):
        cluster_demo.main("examples/none.yaml")


KUBECTL = """
import pathlib, signal, sys, time
said, watching = f"said: {' '.join(sys.argv[2:])}", pathlib.Path(sys.argv[1])
print(said, flush=True)
if "-w" in sys.argv:
    watching.touch()
    signal.pause()
while not watching.exists():
    time.sleep(0.01)
sys.exit("wait" in sys.argv)
"""
"""It says what it was asked for, watches until it is ended, and finds no job complete."""


def test_of_a_job_in_the_cluster_demo_one_program_tells_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two that write at the same time mix in the middle of a line."""
    asked = [sys.executable, "-c", KUBECTL, str(tmp_path / "watching")]
    monkeypatch.setattr(cluster_demo, "real", lambda *command: [*asked, *command])
    assert not cluster_demo.completes("sums")
    wait = f"kubectl rljob wait sums --timeout {cluster_demo.WITHIN}"
    watch, status = "kubectl get rljobs -w", "kubectl rljob status sums"
    told = [line for line in capfd.readouterr().out.splitlines() if line]
    assert told == [
        f"$ {watch}",
        f"said: {watch}",
        f"$ {wait}",
        f"said: {wait}",
        f"$ {status}",
        f"said: {status}",
    ]
