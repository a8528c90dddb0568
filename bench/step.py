"""A whole step of the loop over the work that no loop can avoid, done alone."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from bench.gang import WatchedLoop, loop_here, together
from bench.job import RANKS, SERVERS, Steps, job, servers
from bench.model import Shape, make_qwen3
from bench.peer import Peer, peers
from bench.result import Facts, Result, at_least, at_most
from bench.rounds import ROUNDS, Seconds, ratio, take_turns
from rljob_api.progress import TrainPhase
from rljob_api.run import Run
from rljob_trainer.backend.dtensor.policy import Policy
from rljob_trainer.backend.shares import plan_shares, share_of
from rljob_trainer.batch import Batch
from rljob_trainer.losses import grpo_loss
from rljob_trainer.rollout.seeds import prompt_seed
from trainer.ranks import run_ranks

SHAPE = Shape(hidden=384, layers=6, vocabulary=4096, heads=6)
STEPS = Steps(prompts=8, generations=8, tokens=128, learning_rate=0)
"""Without learning every step has the same weights, so that the floor draws the very same tokens."""
TARGET, LEAST_SECONDS = 1.15, 5.0


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    seconds, facts = turns(job(folder, STEPS), folder)
    return Result(
        name="step",
        checks=[
            at_most("step over its floor", ratio(seconds, "step", "floor"), TARGET),
            at_least("seconds of the shortest step", min(seconds["step"]), LEAST_SECONDS),
        ],
        seconds=seconds,
        facts={"parameters": parameters, "samples": STEPS.samples, "tokens_each": STEPS.tokens, **facts},
        comment="A step is `Loop.step` and the weight sync after it, on 2 ranks and 2 servers. Its floor: two vLLM"
        " engines without a server draw the same tokens from the same seeds (the count is asserted), then two"
        " processes with the whole, unsharded model each compute log-probabilities of half of the batch and run"
        " forward and backward over it; no sync, no optimizer, no gradient exchange. Over the floor:"
        " training, by FSDP's gathers and the optimizer; generation, by HTTP and by four processes of servers on two"
        " cores; then the sync.",
    )


def turns(run: Run, folder: Path, rounds: int = ROUNDS) -> tuple[Seconds, Facts]:
    """Steps of the run and their floor."""
    with servers(run, folder):
        return run_ranks(RANKS, on_rank, run, folder, rounds, deadline=550)[0]


def on_rank(run: Run, folder: Path, rounds: int) -> tuple[Seconds, Facts]:
    """Seconds per candidate, and what the step consists of."""
    with ExitStack() as open_things:
        engines: list[Peer] = []
        if torch.distributed.get_rank() == 0:
            engines = open_things.enter_context(
                peers(
                    "bench.vllm_alone", engine_arguments(run), SERVERS, threads=1, log=folder / "engines.log"
                )
            )
        loop = open_things.enter_context(loop_here(run))
        floor = Floor(loop, engines, plain_policy(folder / "model"))
        before = loop.board.phase_seconds()
        seconds = take_turns({"step": loop.whole_step, "floor": floor.whole}, rounds)
        return seconds | floor.parts(rounds), spent(loop, before)


def engine_arguments(run: Run) -> dict[str, str | int]:
    vllm = run.spec.rollout.vllm
    assert vllm.max_model_len is not None
    return {
        "model": run.spec.model.source,
        "max_model_len": vllm.max_model_len,
        "kv_cache_mib": vllm.kv_cache_mib,
        "max_num_seqs": vllm.max_num_seqs,
    }


def plain_policy(model: Path) -> Policy:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    return Policy(hf, temperature=1.0, top_p=1.0)


def spent(loop: WatchedLoop, before: dict[TrainPhase, float]) -> Facts:
    """Mean seconds per step of each phase, the first one included."""
    after = loop.board.phase_seconds()
    return {
        f"mean_seconds_{phase.value.lower()}": round(
            (after[phase] - before.get(phase, 0)) / loop.state.step, 3
        )
        for phase in after
        if phase in {TrainPhase.GENERATE, TrainPhase.TRAIN, TrainPhase.SYNC, TrainPhase.REWARD}
    }


class Floor:
    """The work of the loop's last step, alone."""

    def __init__(self, loop: WatchedLoop, engines: list[Peer], policy: Policy) -> None:
        self.loop, self.engines, self.policy = loop, engines, policy
        self.generation: list[float] = []
        self.training: list[float] = []

    def whole(self) -> float:
        """Seconds of both parts."""
        self.generation.append(together(self.loop.ranks, self.generate))
        self.training.append(together(self.loop.ranks, lambda: self.train(self.loop.batch)))
        return self.generation[-1] + self.training[-1]

    def parts(self, rounds: int) -> Seconds:
        """The rounds that count."""
        return {
            "floor, generation": self.generation[-rounds:],
            "floor, log-probabilities, forward and backward": self.training[-rounds:],
        }

    def generate(self) -> None:
        """The prompts of the last step, dealt out to the engines, with the seeds that the servers got."""
        if not self.loop.leader:
            return
        grpo, step = self.loop.spec.algorithm.grpo, self.loop.state.step - 1
        prompts = self.loop.leader.inputs.train.batch(step * grpo.prompts_per_step, grpo.prompts_per_step)
        for number, engine in enumerate(self.engines):
            mine = prompts[number :: len(self.engines)]
            engine.ask(
                {
                    "prompts": [prompt.token_ids for prompt in mine],
                    "seeds": [prompt_seed(grpo.seed, f"train-{step}", prompt.index) for prompt in mine],
                    "n": grpo.generations_per_prompt,
                    "max_tokens": self.loop.spec.algorithm.sampling.max_new_tokens,
                }
            )
        drawn = sum(int(engine.answer()["tokens"]) for engine in self.engines)
        assert drawn == int(self.loop.batch.token_count), "the floor drew other tokens than the step"

    def train(self, batch: Batch) -> None:
        """This rank's rows, in the micro-batches of the step."""
        spec = self.loop.spec
        plan = plan_shares(batch.lengths_B, RANKS, spec.backend_options.micro_batch_tokens)
        micros = share_of(batch, plan, torch.distributed.get_rank(), torch.device("cpu"))
        loss = grpo_loss(spec.algorithm.grpo, float(batch.token_count))
        with torch.no_grad():
            for micro in micros:
                self.policy(micro.tokens_BT, micro.mask_BT)
        for micro in micros:
            value, _ = loss(self.policy(micro.tokens_BT, micro.mask_BT), micro)
            torch.autograd.backward(value)
        self.policy.zero_grad()
