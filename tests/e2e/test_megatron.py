"""The Megatron backend under a whole job, that of an example: killed in each phase, it goes on as if nothing had
happened, bit for bit. The same holds for its last step, done again from its samples.

What is killed here is what a user starts; `test_kills` strikes the two tensor ranks, in more phases and more often.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kills import assert_same, kill_rank
from e2e.local_job import RESTARTS, LocalJob
from example_jobs import shortened
from rljob_api.progress import TrainPhase
from rljob_api.status import Phase

pytestmark = pytest.mark.timeout(2400)

STEPS = 16
KILLS = [
    (TrainPhase.GENERATE, signal.SIGKILL, 0),
    (TrainPhase.TRAIN, signal.SIGTERM, 1),
    (TrainPhase.SYNC, signal.SIGKILL, 1),
    (TrainPhase.SAVE, signal.SIGTERM, 0),
]
"""When, how, and which rank."""
DENSE, EXPERTS = "addition-megatron-cpu.yaml", "moe-megatron-cpu.yaml"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[list[LocalJob]]:
    started: list[LocalJob] = []
    yield started
    for job in started:
        job.kill()


def begin(
    jobs: list[LocalJob], folder: Path, parallelism: dict[str, int], ranks: int, save_period: int
) -> LocalJob:
    """With smaller steps than the example's, and dropout, which draws from the random state in each."""
    manifest = shortened(EXPERTS if "expert" in parallelism else DENSE, STEPS)
    spec = manifest["spec"]
    spec["algorithm"]["grpo"] |= {"promptsPerStep": 8, "generationsPerPrompt": 8}
    spec["megatron"]["attentionDropout"] = 0.1
    spec["checkpoint"]["savePeriod"] = save_period
    spec |= {"parallelism": parallelism, "trainer": {"numProcPerNode": ranks}, "failurePolicy": RESTARTS}
    jobs.append(LocalJob(manifest, folder).start())
    return jobs[-1]


@pytest.mark.parametrize(
    ("parallelism", "ranks", "kills"),
    [
        pytest.param({"tensor": 2}, 2, [], id="tensor"),
        pytest.param({"pipeline": 2}, 2, KILLS[:1], id="pipeline"),
        pytest.param({"tensor": 2}, 2, KILLS, id="tensor-in-each-phase", marks=pytest.mark.slow),
        pytest.param({"tensor": 2}, 4, KILLS[:2], id="tensor-and-data", marks=pytest.mark.slow),
        pytest.param({"expert": 2}, 2, KILLS, id="expert", marks=pytest.mark.slow),
    ],
)
def test_kills_change_nothing(
    tmp_path: Path,
    jobs: list[LocalJob],
    parallelism: dict[str, int],
    ranks: int,
    kills: list[tuple[TrainPhase, signal.Signals, int]],
) -> None:
    job = begin(jobs, tmp_path / "killed", parallelism, ranks, save_period=1)
    before = -1
    for phase, how, rank in kills:
        before = kill_rank(job, how, phase, rank, before)
    assert job.finish() == 0, job.words()
    status = job.status()
    assert status is not None
    assert (status.phase, status.restarts) == (Phase.COMPLETE, len(kills))
    assert max(job.volume.curve("mismatch_max").values()) < 1e-4
    if kills:
        straight = begin(jobs, tmp_path / "straight", parallelism, ranks, save_period=STEPS)
        assert straight.finish() == 0, straight.words()
        assert_same(job, straight)
    found = job.replay(STEPS)
    assert found == {"step": STEPS, "fromStep": STEPS - 1, "inexact": "", "difference": None}
