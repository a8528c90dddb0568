"""The demos, which `make test` does not run: each can be imported, and would run a job that is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e import demo, picture
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
