"""Whatever stops a job, it goes on as if nothing had happened: the same losses, samples and weights, bit for bit.

One uninterrupted run is the measure; the attention dropout of 0.1 makes every rank draw from its random state. What is
killed here is what a user starts; `test_kills` strikes in more phases, and more often.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import ONE_SERVER
from e2e.kills import LAUNCHER, assert_same, kill_command, kill_rank, kill_server, step
from e2e.local_job import LocalJob, addition
from rljob_api.progress import TrainPhase
from rljob_api.samples import SampleRecord, step_file
from rljob_api.status import AttemptStatus, Exactness, Phase

pytestmark = pytest.mark.timeout(3600)

STEPS = 40
"""Enough for all kills: catching a phase of a tenth of a second takes a step or two."""
KILLS = [
    (signal.SIGKILL, TrainPhase.GENERATE, 0),
    (signal.SIGTERM, TrainPhase.TRAIN, 1),
    (signal.SIGKILL, TrainPhase.SAVE, LAUNCHER),
    (signal.SIGTERM, TrainPhase.GENERATE, LAUNCHER),
]
"""How, when, and whom."""
AGAIN, BEGIN = STEPS - 2, STEPS - 4
"""A step that is done again, and the checkpoint before it."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalJob]:
    """The run that nothing interrupts."""
    alone = addition(STEPS, rollout=ONE_SERVER)  # how many draw the samples may not be seen in them
    job = LocalJob(alone, tmp_path_factory.mktemp("straight")).start()
    try:
        assert job.finish() == 0, job.words()
        yield job
    finally:
        job.kill()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LocalJob]:
    checkpoint = {
        "savePeriod": 1,
        "onPreemption": {"gracePeriodSeconds": 30},
        "finishedRollouts": {"afterSeconds": 0},
    }
    job = LocalJob(addition(STEPS, checkpoint=checkpoint), tmp_path)
    yield job
    job.kill()


@pytest.fixture
def copy(straight: LocalJob, tmp_path: Path) -> LocalJob:
    """Of that run, to do steps of it again."""
    copy = LocalJob(straight.manifest, tmp_path)
    shutil.copytree(straight.work_dir, copy.work_dir, ignore=shutil.ignore_patterns("lock"))
    return copy


def test_after_every_sync_the_servers_answer_with_the_weights_of_the_trainer(straight: LocalJob) -> None:
    """To float32's rounding, in every sample: one weight that had not arrived would show."""
    mismatch = straight.volume.curve("mismatch_max")
    assert sorted(mismatch) == list(range(1, STEPS + 1))
    assert max(mismatch.values()) < 1e-4


def test_a_stop_and_kills_of_every_process_change_nothing(straight: LocalJob, job: LocalJob) -> None:
    """Ctrl-C; then SIGKILL and SIGTERM of ranks and of what launched them, of one of two servers while training goes
    on, and of the whole command. All in one life of a job, with as few servers as will do: vLLM takes long to start."""
    _scale(job, 1)
    job.start()
    _stop(job)
    _scale(job, 2)
    job.start()
    _assert_exact(job)
    before = -1
    for how, phase, victim in KILLS:
        before = kill_rank(job, how, phase, victim, before)
    kill_server(job, signal.SIGKILL, TrainPhase.GENERATE, replica=0, before=before)
    _scale(job, 1)
    kill_command(job)
    assert job.finish() == 0, job.words()
    status = job.status()
    assert status is not None
    assert status.phase is Phase.COMPLETE
    assert_same(job, straight)
    assert _kept_groups(job) > 0, "no attempt used what one before had drawn"


def test_drawn_anew_a_step_comes_out_the_same(copy: LocalJob) -> None:
    told = copy.replay(AGAIN, "--draw")
    assert told == {"step": AGAIN, "fromStep": BEGIN, "inexact": "", "difference": None}


def test_of_two_steps_that_are_done_again_a_replay_finds_the_number_that_was_changed(copy: LocalJob) -> None:
    """From their samples the first comes out the same, and in the second one reward stands out."""
    file = copy.storage / "samples" / step_file(AGAIN)
    lines = file.read_text().splitlines()
    changed = SampleRecord.model_validate_json(lines[3])
    lines[3] = changed.model_copy(update={"reward": 0.5}).model_dump_json(by_alias=True)
    file.write_text("\n".join(lines))
    told = copy.replay(AGAIN)
    assert (told["fromStep"], told["inexact"]) == (BEGIN, "")
    assert (told["difference"]["step"], told["difference"]["was"]) == (AGAIN, "0.5")
    assert (
        told["difference"]["what"] == f"reward of prompt {changed.prompt_index}, completion {changed.number}"
    )
    assert [path.name for path in (copy.work_dir / "replay").glob("*/logs/*")] == ["addition-trainer-0-1.log"]


def _stop(job: LocalJob) -> None:
    """As Ctrl-C does: the last finished step is the one that is saved, and no process is left."""
    job.wait_for(lambda: step(job) >= 3)
    assert job.stop() == 130, job.words()
    stopped = job.status()
    assert stopped is not None
    assert stopped.phase is Phase.SUSPENDED
    assert stopped.checkpoint.latest is not None
    assert stopped.checkpoint.latest.step == stopped.progress.step
    assert job.pods() == {}, "no process outlives the command"


def _scale(job: LocalJob, replicas: int) -> None:
    """From its next start on."""
    job.manifest["spec"]["rollout"]["replicas"] = replicas


def _assert_exact(job: LocalJob) -> None:
    """The status says that nothing was lost."""
    told: list[AttemptStatus] = []

    def is_told() -> bool:
        now = job.status()
        told[:] = [now.attempt] if now and now.attempt and now.attempt.exactness else []
        return bool(told)

    job.wait_for(is_told)
    assert (told[0].exactness, told[0].lost_steps) == (Exactness.EXACT, 0)


def _kept_groups(job: LocalJob) -> int:
    """That attempts took over from those before, as each of them logged."""
    logs = "".join(path.read_text() for path in (job.work_dir / "logs").glob("*-trainer-*"))
    return sum(map(int, re.findall(r"(\d+) groups of completions were there from an earlier attempt", logs)))
