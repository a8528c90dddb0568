"""The trainer's own start, loop, saves and export on two real ranks; prompts are answered on the spot, by no server.

What the stand-in answers depends on prompt, seed and step, as vLLM's answers do while weights are the same. So a run
that is stopped and goes on takes seconds, and is compared on its volume as those of `e2e` are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch.distributed as dist

from rljob_api.manifest import Versions
from rljob_api.parallelism import BackendName
from rljob_api.progress import EXIT_PREEMPTED, Ending
from rljob_api.run import Run
from rljob_trainer import train
from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.distributed import Ranks
from rljob_trainer.progress import ProgressBoard
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.vllm_server import a_run

RANKS = 2
STEPS = 5
VALIDATED = {name: {"source": "builtin:addition"} for name in ("train", "validation")}
Change = Callable[[ResumePlan], ResumePlan]


@dataclass(frozen=True)
class Told:
    """What rank 0 told of an attempt."""

    ending: Ending
    code: int
    message: str
    stderr: str
    exactness: str
    skipped: list[str]


def a_job(folder: Path, backend: BackendName, attempt: int = 1, *, validated: bool = False) -> Run:
    """Its model lies in `folder`'s parent, so that the jobs beside it train the same."""
    grpo = {"maxSteps": STEPS, "promptsPerStep": 4, "generationsPerPrompt": 4, "learningRate": 1e-3}
    sections: dict[str, Any] = {"backend": backend, backend: {"attentionDropout": 0.1}}
    if validated:
        sections["data"] = VALIDATED
    return a_run(
        folder,
        attempt=attempt,
        model={"source": str(folder.parent / "model")},
        algorithm={"grpo": grpo | {"validationPeriod": int(validated)}, "sampling": {"maxNewTokens": 8}},
        trainer={"numProcPerNode": RANKS},
        checkpoint={"savePeriod": 1, "keepLatest": 2},
        **sections,
    )


def trained(run: Run, *, stop: int | None = None, change: Change | None = None) -> Told:
    """One attempt: to the end, or told to go after step `stop` and before its evaluation. `change` is made to what it
    goes on from."""
    return run_ranks(RANKS, attempt, run, stop, change)[0]


def attempt(run: Run, stop: int | None, change: Change | None) -> Told:
    """The life of a rank."""
    os.environ["POD_IP"] = "127.0.0.1"
    rank, board, stderr = dist.get_rank(), ProgressBoard(run), StringIO()
    stand_ins = _stand_ins(change, Going(stop, board), recorded=bool(run.recorded))
    with stand_ins, redirect_stderr(stderr):
        ending, code, message = train._ended(run, rank, rank, board, partial(os._exit, EXIT_PREEMPTED))
    now = board.progress()
    exactness = now.resumed.exactness.value if now.resumed else ""
    return Told(ending, code, message, stderr.getvalue(), exactness, now.skipped_checkpoints)


@dataclass
class Going:
    """In place of `Preemption`: told to go once so many steps are done."""

    stop: int | None
    board: ProgressBoard

    def preparing(self) -> AbstractContextManager[None]:
        """Nobody is told to go before the first step."""
        return nullcontext()

    def agree(self) -> None:
        if self.board.progress().step == self.stop:
            raise Interrupted

    def poll(self) -> None:
        if self.board.progress().step == self.stop:
            raise Interrupted


def _met(run: Run, rank: int, local_rank: int, waiting: Any) -> Ranks:
    """They have, before."""
    store: Any = dist.distributed_c10d._get_default_store()
    return Ranks(rank, local_rank, run.spec.trainer.world_size, store, dist.new_group(), waiting)


def _nobody(*_: object) -> None:
    raise AssertionError("what is recorded is not asked again")


def _stand_ins(change: Change | None, going: Going, *, recorded: bool) -> ExitStack:
    def plan(*arguments: Any) -> ResumePlan:
        found = plan_resume(*arguments)
        return change(found) if change else found

    stack = ExitStack()
    sync = SimpleNamespace(transport="none", push=lambda *_: None)
    instead: dict[str, Callable[..., object]] = {
        "train.join": _met,
        "train.Preemption": lambda *_: going,
        "train._fleet": _nobody if recorded else lambda *_: Answers(),
        "train.WeightSync": lambda *_: sync,
        "train.plan_resume": plan,
        "convert.once.find_converted": lambda _, model: converted(model),
    }
    for name, stand_in in instead.items():
        stack.enter_context(mock.patch(f"rljob_trainer.{name}", stand_in))
    return stack


class Answers:
    """In place of `Fleet`."""

    broken: tuple[()] = ()

    def beside(self, versions: Versions, _: object) -> Versions:
        """It computes nothing."""
        return versions

    def generate(
        self, prompts: list[Prompt], n: int, _: object, *, seed_of: Callable[[Prompt], int], **about: Any
    ) -> list[Sample]:
        about["poll"]()
        return [
            _sample(prompt, number, seed_of(prompt), about["step"])
            for prompt in prompts
            for number in range(n)
        ]

    def close(self) -> None:
        """Nothing is open."""


def _sample(prompt: Prompt, number: int, seed: int, step: int) -> Sample:
    """The right answer in every other case."""
    draw = random.Random(f"{seed + number}/{step}/{prompt.text}")
    tokens = [draw.randrange(3, 512) for _ in range(draw.randrange(1, 5))]
    text = prompt.answer if draw.random() < 0.5 else "no idea"
    logprobs = [-10 * draw.random() for _ in tokens]
    return Sample(prompt, number, tokens, logprobs, text, "stop", step)


def without_the_data_position(plan: ResumePlan) -> ResumePlan:
    """As if `loop.json` did not tell how many prompts were asked."""
    return replace(plan, loop=plan.loop.model_copy(update={"prompts_seen": 0}))
