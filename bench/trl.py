"""Samples per second of our loop against TRL's GRPOTrainer with its built-in generation, on the same model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from bench.gang import loop_here, together
from bench.job import RANKS, Steps, job, servers
from bench.model import Shape, make_qwen3
from bench.peer import peers
from bench.result import Check, Facts, Result, at_least
from bench.rounds import ROUNDS, Seconds, ratio, take_turns
from rljob_api.run import Run
from rljob_trainer.builtin.addition.problems import pairs, question
from trainer.ranks import run_ranks

CORES = 2
CASES = {
    "real": (
        Shape(hidden=512, layers=9, vocabulary=8192),
        Steps(prompts=4, generations=8, tokens=128, learning_rate=1e-6),
    ),
    "toy": (
        Shape(hidden=128, layers=2, vocabulary=16, heads=4),
        Steps(prompts=32, generations=16, tokens=4, learning_rate=1e-6),
    ),
}
TARGET = 1.0


def measure(folder: Path) -> Result:
    checks: list[Check] = []
    seconds: Seconds = {}
    facts: Facts = {}
    for name, (shape, steps) in CASES.items():
        (folder / name).mkdir()
        parameters = make_qwen3(folder / name / "model", shape)
        turns, tokens = measure_case(folder / name, steps)
        faster = ratio(turns, "trl", "ours")
        if name == "real":
            checks = [at_least("samples per second over TRL's", faster, TARGET)]
        seconds |= {f"{name}: {who}": values for who, values in turns.items()}
        facts |= {
            f"{name}_parameters": parameters,
            f"{name}_samples_a_step": f"{steps.prompts} x {steps.generations}, {steps.tokens} tokens",
            f"{name}_ratio": round(faster, 3),
            **{f"{name}_samples_per_second_{who}": steps.samples / median(turns[who]) for who in turns},
            **{f"{name}_tokens_drawn_in_a_step_{who}": round(median(found)) for who, found in tokens.items()},
        }
    return Result(
        name="trl",
        checks=checks,
        seconds=seconds,
        facts=facts,
        comment="A step of our loop with its weight sync (2 ranks, 2 vLLM servers, one thread each) against a step of"
        " TRL's GRPOTrainer (one process, 2 threads, transformers' generation, no gradient checkpointing): the same"
        " random weights, prompts, numbers of samples and tokens. The toy has the size of the example job's model.",
    )


Tokens = dict[str, list[int]]
"""Candidate → what it drew in each round."""


def measure_case(folder: Path, steps: Steps) -> tuple[Seconds, Tokens]:
    run = job(folder, steps)
    with servers(run, folder):
        return run_ranks(RANKS, on_rank, run, folder, steps, deadline=550)[0]


def on_rank(run: Run, folder: Path, steps: Steps) -> tuple[Seconds, Tokens]:
    with ExitStack() as open_things:
        theirs = []
        if torch.distributed.get_rank() == 0:
            arguments = {
                "model": run.spec.model.source,
                "output": str(folder / "trl"),
                "prompts": [question(pair) for pair in pairs("train")[:256]],
                "prompts_per_step": steps.prompts,
                "generations": steps.generations,
                "tokens": steps.tokens,
                "learning_rate": steps.learning_rate,
            }
            log = folder / "trl.log"
            theirs = open_things.enter_context(peers("bench.trl_alone", arguments, 1, threads=CORES, log=log))
        loop = open_things.enter_context(loop_here(run))

        tokens: Tokens = {"ours": [], "trl": []}

        def our_step() -> float:
            took = loop.whole_step()
            tokens["ours"].append(int(loop.batch.token_count))
            return took

        def step_of_trl() -> None:
            for trl in theirs:
                trl.ask({})
                tokens["trl"].append(int(trl.answer()["tokens"]))

        seconds = take_turns({"ours": our_step, "trl": lambda: together(loop.ranks, step_of_trl)})
        return seconds, {who: found[-ROUNDS:] for who, found in tokens.items()}
