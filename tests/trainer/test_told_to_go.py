"""Told to go while rewards are computed: the gang leaves after the sample in hand, with all that it has finished."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rljob_api.progress import Ending
from rljob_trainer.checkpoint.directory import Directory
from trainer.answering import GROUP, PROMPTS, Job, a_model, answering, job_beside
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HELD_OUT = 24
"""Prompts of an evaluation."""

REWARD = """
import time
from pathlib import Path

def score(prompt, completion, answer, item):
    with Path("held_out" if item.get("heldOut") else "trained_on").open("a") as calls:
        calls.write("x")
    if Path("slow").exists():
        time.sleep(0.5)
    return float(int(completion) % 3)
"""


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


@pytest.mark.parametrize(("which", "a_step"), [("trained_on", PROMPTS * GROUP), ("held_out", HELD_OUT)])
def test_a_slow_reward_does_not_use_up_the_time_to_leave(folder: Path, which: str, a_step: int) -> None:
    """Rank 1 is told, while rank 0 is at the second batch of samples."""
    with answering() as server, job_beside(server, folder / which, **a_job(folder)) as job:
        (job.folder / "slow_reward.py").write_text(REWARD)
        job.start()
        until(lambda: calls(job, which) >= a_step, "the first batch is scored", 90)
        (job.folder / "slow").touch()
        until(lambda: calls(job, which) > a_step, "the second one has begun", 90)
        words = job.end(signal.SIGTERM, rank=1)
        assert words.ending is Ending.PREEMPTED, words.message
        assert calls(job, which) < 2 * a_step, "it did not wait for the rest"
        assert words.step == words.saved_step == 1
        assert Directory(job.storage).steps() == [1]
