"""Twenty blows on each backend, through all phases of a job, at moments and to ranks that are drawn: nothing is lost
but time. `make bench-kills` has eight hundred.

Ranks are forked from a parent that has imported torch, and vLLM stays; `test_exactness` kills what a user starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import REPOSITORY
from bench.blows import PHASES
from bench.kills import BACKENDS, Record, beyond

pytestmark = pytest.mark.timeout(3600)

KILLS = 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_kills_in_all_phases_change_nothing(backend: str, tmp_path: Path) -> None:
    play(backend, tmp_path)
    record = Record(tmp_path / backend)
    kills, lives = record.kills(), record.lives()
    assert len(kills) >= KILLS
    assert {kill.blow.phase for kill in kills} == set(PHASES[backend])
    assert [kill for kill in kills if kill.blow.how == "SIGTERM" and kill.lost] == []
    assert beyond([kill for kill in kills if kill.blow.how == "SIGKILL"]) == 0
    assert lives
    assert [life for life in lives if life.differences] == []


def play(backend: str, folder: Path) -> None:
    """In a process of its own: what a parent of ranks has imported is of one backend."""
    command = [sys.executable, "-m", "bench.kills", backend, str(folder), str(KILLS)]
    paths = os.pathsep.join([str(REPOSITORY / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (folder / "told.log").open("ab") as told:
        environment = {**os.environ, "PYTHONPATH": paths}
        ended = subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdout=told, stderr=told, check=False
        )
    assert ended.returncode == 0, (folder / "told.log").read_text()[-8000:]
