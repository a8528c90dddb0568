"""Told to go while something takes too long: the gang leaves at once, with all that it has finished."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rljob_api.progress import EXIT_PREEMPTED, Ending
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.state import LoopState
from trainer.answering import GROUP, PROMPTS, Job, a_model, answering, job_beside
from waiting import DEADLINE_SECONDS, until

HELD_OUT = 24
"""Prompts of an evaluation."""

REWARD = """
import time
from pathlib import Path

def score(prompt, completion, answer, item):
    which = "held_out" if item.get("heldOut") else "trained_on"
    with Path(which).open("a") as calls:
        calls.write("x")
        calls.flush()
        if Path(f"slow_{which}").exists() and calls.tell() > int(Path(f"slow_{which}").read_text()):
            time.sleep(2)
    return float(int(completion) % 3)
"""


HELD_SAVE = """
import os
import time
from pathlib import Path

sync = os.fsync

def held(descriptor):
    if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
        Path("saves").touch()
        while not Path("told_again").exists():
            time.sleep(0.01)
    sync(descriptor)

os.fsync = held
"""
ENDLESS = "import threading\nthreading.Event().wait()\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model of all jobs, and prompts to evaluate on."""
    found = tmp_path_factory.mktemp("told-to-go")
    a_model(found / "model")
    rows = [{"question": f"{n}+1000=", "answer": str(n + 1000), "heldOut": True} for n in range(HELD_OUT)]
    (found / "held_out.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return found


def a_job(folder: Path) -> dict[str, Any]:
    """It evaluates after each step, and saves at its end only, or when it is told to go."""
    grpo = {"maxSteps": 2, "promptsPerStep": PROMPTS, "generationsPerPrompt": GROUP, "validationPeriod": 1}
    held_out = {"source": str(folder / "held_out.jsonl")}
    return {
        "algorithm": {"grpo": grpo | {"klPenalty": 0.01}, "sampling": {"maxNewTokens": 8}},
        "data": {"train": {"source": "builtin:addition"}, "validation": held_out},
        "reward": {"python": {"module": "slow_reward", "function": "score"}},
        "checkpoint": {"savePeriod": 10},
    }


def calls(job: Job, which: str) -> int:
    """How many samples were scored."""
    path = job.folder / which
    return path.stat().st_size if path.exists() else 0


@contextmanager
def started(folder: Path, name: str, slow_after: dict[str, int], reward: str = REWARD) -> Iterator[Job]:
    """A job beside its server, whose reward is slow after so many samples of a kind."""
    with answering() as server, job_beside(server, folder / name, **a_job(folder)) as job:
        (job.folder / "slow_reward.py").write_text(reward)
        for which, samples in slow_after.items():
            (job.folder / f"slow_{which}").write_text(str(samples))
        job.start()
        yield job


def told_in_the_second_batch(
    job: Job, which: str, batch: int, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Rank 1 is told, while rank 0 scores; the gang leaves with the step that it has finished."""
    until(lambda: calls(job, which) > batch, "the second batch has begun", DEADLINE_SECONDS)
    os.kill(job.ranks()[1], signal.SIGTERM)
    meanwhile()
    words = job.finish()
    assert words.ending is Ending.PREEMPTED, words.message
    assert calls(job, which) < 2 * batch, "it did not wait for the rest"
    assert words.step == words.saved_step == 1
    assert Directory(job.storage).steps() == [1]


def test_a_slow_reward_does_not_use_up_the_time_to_leave(folder: Path) -> None:
    batch = PROMPTS * GROUP
    with started(folder, "rewards", {"trained_on": batch}) as job:
        told_in_the_second_batch(job, "trained_on", batch)


def test_who_is_told_again_while_it_saves_saves_all_the_same(folder: Path) -> None:
    batch = PROMPTS * GROUP
    with started(folder, "again", {"trained_on": batch}, f"{HELD_SAVE}{REWARD}") as job:

        def tell_again() -> None:
            until((job.folder / "saves").exists, "it saves", DEADLINE_SECONDS)
            for rank in job.ranks():
                os.kill(rank, signal.SIGTERM)
            (job.folder / "told_again").touch()

        told_in_the_second_batch(job, "trained_on", batch, tell_again)


@pytest.mark.parametrize("call", ["/update_weights", "/finish_weight_update"])
def test_a_server_whose_engine_hangs_does_not_use_up_the_time_to_leave(folder: Path, call: str) -> None:
    """It would be waited for as long as `weightSync.timeoutSeconds` says."""
    with answering() as server, job_beside(server, folder / call.strip("/"), **a_job(folder)) as job:
        server.hold_update = call
        (job.folder / "slow_reward.py").write_text(REWARD)
        job.start()
        until(lambda: server.controls.count(call) == 2, "the new weights are on their way", DEADLINE_SECONDS)
        told = time.monotonic()
        words = job.end(signal.SIGTERM, rank=1)
        assert words.ending is Ending.PREEMPTED, words.message
        assert (words.step, words.saved_step) == (1, 1)
        assert time.monotonic() - told < job.run().spec.weight_sync.timeout_seconds / 4


def test_what_takes_long_before_training_is_given_up_on_all_ranks(folder: Path) -> None:
    """Rank 0 reads something for ever, the others wait for it; one of those is told."""
    with answering() as server, job_beside(server, folder / "prepares", **a_job(folder)) as job:
        (job.folder / "slow_reward.py").write_text(f"open('reads', 'w').close()\n{ENDLESS}{REWARD}")
        job.start()
        until((job.folder / "reads").exists, "rank 0 reads", DEADLINE_SECONDS)
        words = job.end(signal.SIGTERM, rank=1)
    assert (words.ending, words.exit_code) == (Ending.PREEMPTED, EXIT_PREEMPTED)
    assert words.message == "told to go before training began"
    assert words.progress is not None, "rank 0 left by itself"


def curve(job: Job) -> list[tuple[int, float]]:
    events = EventAccumulator(str(job.storage / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("val/accuracy")]


def test_an_evaluation_that_was_cut_short_is_done_by_the_next_attempt(folder: Path) -> None:
    """The curve, and the best of it, are those of a job that nothing interrupts."""
    with started(folder, "straight", {}) as straight:
        assert straight.finish().ending is Ending.COMPLETE
    with started(folder, "evaluation", {"held_out": HELD_OUT}) as job:
        told_in_the_second_batch(job, "held_out", HELD_OUT)
        (job.folder / "slow_held_out").unlink()
        job.start()
        assert job.finish().ending is Ending.COMPLETE
    assert [step for step, _ in curve(straight)] == [0, 1, 2]
    assert curve(job) == curve(straight)
    ends = [LoopState.read(Directory(one.storage).checkpoint(2)) for one in (job, straight)]
    assert ends[0].best == ends[1].best
