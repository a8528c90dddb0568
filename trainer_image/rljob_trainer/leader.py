"""What rank 0 does alone: asks the rollout servers, scores, keeps samples, writes curves. Called through `from_leader`.

A server that was lost while it answered makes `ask` and `evaluate` return None: push weights again, then ask again;
what was answered is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from rljob_api.job import JobSpec
from rljob_api.manifest import Versions
from rljob_api.progress import TrainPhase
from rljob_trainer.advantages import advantages
from rljob_trainer.batch import Batch, Prompt, Sample, collate
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import dispensable
from rljob_trainer.checkpoint.evaluation import add_evaluation
from rljob_trainer.checkpoint.past import StepNotes
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.data import Prompts
from rljob_trainer.evaluate import evaluate
from rljob_trainer.metrics import MetricsLog
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.rewards import Reward, score
from rljob_trainer.rollout.fleet import ServersLostError
from rljob_trainer.rollout.kept import KeptRollouts, KeptStep
from rljob_trainer.rollout.protocol import Rollouts
from rljob_trainer.rollout.seeds import prompt_seed
from rljob_trainer.samples import write_samples

Metrics = dict[str, float]


@dataclass(frozen=True)
class Inputs:
    """What is asked, and the token that batches are padded with."""

    train: Prompts
    validation: Prompts | None
    pad_id: int


@dataclass(frozen=True)
class Leader:
    """Rank 0's means."""

    spec: JobSpec
    rollouts: Rollouts
    inputs: Inputs
    reward: Reward
    storage: Storage
    log: MetricsLog
    board: ProgressBoard
    poll: Callable[[], None]
    notes: StepNotes
    kept: KeptRollouts | None = None
    """Finished groups on the volume, if the job keeps them."""

    def ask(self, state: LoopState) -> tuple[Batch, Metrics] | None:
        """Draw completions of the next prompts, score them, and put them into one batch."""
        grpo = self.spec.algorithm.grpo
        prompts = self.inputs.train.batch(state.prompts_seen, grpo.prompts_per_step)
        kept = self.kept.step(state) if self.kept else None
        with self.board.phase(TrainPhase.GENERATE) as phase:
            samples = self._generate(
                prompts,
                grpo.generations_per_prompt,
                f"train-{state.step}",
                step=state.step,
                phase=phase,
                kept=kept,
            )
        if samples is None:
            return None
        if kept and kept.taken:
            self.board.regain(len(kept.taken), sum(group.seconds for group in kept.taken.values()))
        with self.board.phase(TrainPhase.REWARD):
            rewards = score(samples, self.reward, self.board.tell, self.poll)
        compared = advantages(rewards, grpo)
        storage = self.storage
        with self.board.phase(TrainPhase.SAVE, "samples"):
            self._check_fence()
            with dispensable(f"Writing the samples of step {state.step + 1}"):
                write_samples(
                    storage.root, state.step + 1, samples, rewards, compared, attempt=storage.mine.attempt
                )
        return collate(samples, compared, self.inputs.pad_id), _told(samples, rewards)

    def evaluate(self, state: LoopState) -> Metrics | None:
        """Held-out accuracy, with the same seeds every time; `{}` without validation prompts."""
        if self.inputs.validation is None:
            return {}
        prompts = self.inputs.validation.all()
        with self.board.phase(TrainPhase.EVALUATE) as phase:
            samples = self._generate(prompts, 1, "validate", step=state.step, phase=phase)
            if samples is None:
                return None
            result = evaluate(prompts, lambda _: samples, self.reward, self.board.tell, self.poll)
        metrics = {"val:accuracy": result.accuracy}
        self._check_fence()
        with dispensable(f"Writing the evaluation of step {state.step}"):
            self.log.write(state.step, metrics)
        with dispensable(f"Noting the evaluation with the checkpoint of step {state.step}"):
            add_evaluation(self.storage, state.step, metrics)
        return metrics

    def finished(self, step: int, metrics: Metrics) -> None:
        """A step is done: the next attempt will know of it, the curves go on, and the log has a line of it."""
        with self.board.phase(TrainPhase.SAVE, "curves"):
            self._check_fence()
            with dispensable(f"Noting that step {step} is done"):
                self.notes.finished(step)
            with dispensable(f"Writing the curves of step {step}"):
                self.log.write(step, metrics)
        told = [metrics[name] for name in ("reward", "loss", "step_seconds")]
        last = self.spec.algorithm.grpo.max_steps
        logging.info("step %d/%d: reward %.4g, loss %.4g, %.1f s", step, last, *told)

    def saved(self, step: int) -> int | None:
        """A checkpoint of this step is whole. How many there are, if the volume tells."""
        with dispensable("Removing rollouts of the past"):
            if self.kept:
                self.kept.saved(step)
        with dispensable("Counting checkpoints"):
            return len(self.storage.steps())
        return None

    def depend_on(self, versions: Versions) -> None:
        """What steps and kept groups depend on from now on."""
        self.notes.basis = self.notes.basis.model_copy(update={"versions": versions})
        if self.kept:
            self.kept.versions = versions

    def _check_fence(self) -> None:
        """Raise `FencedError` if a newer attempt has taken the volume; one that cannot be read is no proof of it."""
        with dispensable("Looking for a newer attempt"):
            self.storage.check_fence()

    def _generate(
        self,
        prompts: list[Prompt],
        n: int,
        occasion: str,
        *,
        step: int,
        phase: TrainPhase,
        kept: KeptStep | None = None,
    ) -> list[Sample] | None:
        try:
            return self.rollouts.generate(
                prompts,
                n,
                self.spec.algorithm.sampling,
                seed_of=self._seeds(occasion),
                step=step,
                poll=self.poll,
                phase=phase,
                kept=kept,
            )
        except ServersLostError as lost:
            self.board.tell(str(lost))
            return None

    def _seeds(self, occasion: str) -> Callable[[Prompt], int]:
        return lambda prompt: prompt_seed(self.spec.algorithm.grpo.seed, occasion, prompt.index)


def _told(samples: list[Sample], rewards: list[float]) -> Metrics:
    lengths = [len(sample.token_ids) for sample in samples]
    cut = sum(sample.finish_reason == "length" for sample in samples)
    return {
        "reward": sum(rewards) / len(rewards),
        "completion_tokens": sum(lengths) / len(lengths),
        "cut_off": cut / len(samples),
    }
