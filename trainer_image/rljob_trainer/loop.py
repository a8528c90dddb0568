"""The RL loop, readable from top to bottom. Every rank runs it; what only one can do, rank 0 does for all.

A step is finished when every rank has applied its optimizer update. Being told to stop (`Interrupted`) abandons the
step in hand: half-accumulated gradients cannot be resumed, so what is kept is the last finished step with its RNG.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rljob_api.job import JobSpec
from rljob_api.manifest import Versions
from rljob_api.progress import TrainPhase
from rljob_trainer.backend.protocol import Backend, StepResult
from rljob_trainer.batch import Batch
from rljob_trainer.checkpoint.due import SaveDue
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.save import Saved, Saver
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.team import AbsentRankError, SaveError
from rljob_trainer.distributed import Ranks
from rljob_trainer.leader import Leader, Metrics
from rljob_trainer.losses import grpo_loss, mismatch
from rljob_trainer.metrics import HELD_OUT
from rljob_trainer.preempt import Preemption
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.rollout.protocol import Sync


@dataclass
class Loop:
    """The policy in training. `state` and `rng` always belong to the last finished step."""

    spec: JobSpec
    ranks: Ranks
    backend: Backend
    preemption: Preemption
    sync: Sync
    saver: Saver | None
    board: ProgressBoard
    leader: Leader | None
    """On rank 0 only."""
    state: LoopState
    rng: object

    def __post_init__(self) -> None:
        self.due = SaveDue(self.spec.checkpoint.save_period, self.spec.algorithm.grpo.max_steps)

    def run(self, last_step: int) -> None:
        """Train to the end of `last_step`. Raises `Interrupted` on all ranks when they agreed to stop."""
        self.push_weights()
        self.evaluate()  # before the first step, or what an attempt before was kept from
        while self.state.step < last_step:
            self.preemption.agree()
            self.poll_save()
            self.step()
            self.push_weights()
            self.evaluate()
            self.save()

    def step(self) -> None:
        """One update: ask, score, compare inside each group, learn."""
        started = time.monotonic()
        batch, asked = self.ask()
        with self.board.phase(TrainPhase.TRAIN):
            batch = self.with_logprobs(batch)
            loss = grpo_loss(self.spec.algorithm.grpo, float(batch.token_count))
            result = self.backend.train_step(batch, loss, self.boundary)
        self.finish(batch, asked | mismatch(batch) | _told(result), time.monotonic() - started)

    def ask(self) -> tuple[Batch, Metrics]:
        """The scored batch of this step, from rank 0; lost servers get the weights again and are asked again."""
        while (asked := self.ranks.from_leader(lambda: self._lead.ask(self.state))) is None:
            self.push_weights()
        return asked

    def boundary(self) -> None:
        """Between two micro-batches, with gradients or without: a sign of life, and the place to stop."""
        self.board.alive()
        self.preemption.agree()

    def with_logprobs(self, batch: Batch) -> Batch:
        """The batch with the trainer's own log-probabilities, and the starting model's if there is a KL penalty."""
        batch = replace(batch, old_logprobs_BT=self.backend.logprobs(batch, self.boundary))
        if self.spec.algorithm.grpo.kl_penalty > 0:
            reference_BT = self.backend.reference_logprobs(batch, self.boundary)
            batch = replace(batch, reference_logprobs_BT=reference_BT)
        return batch

    def finish(self, batch: Batch, metrics: Metrics, seconds: float) -> None:
        """The update is done on all ranks: move the state on, and keep the RNG that belongs to it."""
        tokens = int(batch.token_count)
        self.rng = self.backend.rng_state()
        self.state = self.state.model_copy(
            update={
                "step": self.state.step + 1,
                "prompts_seen": self.state.prompts_seen + self.spec.algorithm.grpo.prompts_per_step,
                "samples_seen": self.state.samples_seen + batch.size,
                "tokens_seen": self.state.tokens_seen + tokens,
                "elapsed_seconds": self.state.elapsed_seconds + seconds,
                "metrics": metrics,
            }
        )
        speed = {"tokens_per_second": tokens / seconds, "step_seconds": seconds}
        self.board.finish_step(self.state.step, metrics | speed)
        if self.leader:
            self.leader.finished(self.state.step, metrics | speed)

    def push_weights(self) -> None:
        """Give every rollout server the weights of the last finished step."""
        with self.board.phase(TrainPhase.SYNC):
            self.sync.push(self.backend.weights, self.state.step, self.preemption.poll)
        self.board.synced(self.state.step)

    def evaluate(self) -> None:
        """Held-out accuracy every `validationPeriod` steps, before the first and after the last; once for each step."""
        grpo, step = self.spec.algorithm.grpo, self.state.step
        due = grpo.validation_period and (step % grpo.validation_period == 0 or step == grpo.max_steps)
        if not due or any(name.startswith(HELD_OUT) for name in self.state.metrics):
            return
        while (metrics := self.ranks.from_leader(lambda: self._lead.evaluate(self.state))) is None:
            self.push_weights()
        best = {name: max(value, self.state.best.get(name, value)) for name, value in metrics.items()}
        self.state = self.state.model_copy(
            update={"metrics": self.state.metrics | metrics, "best": self.state.best | best}
        )
        self.board.evaluated(metrics)

    def save(self) -> None:
        """A checkpoint every `savePeriod` steps and after the last; one that failed is tried again soon."""
        if self.saver is None or not self.due.take(self.state.step):
            return
        if self.state.step == self.spec.algorithm.grpo.max_steps:
            self.save_now()
            return
        with self.board.phase(TrainPhase.SAVE), self._spared(StorageError):
            self._announce(self.saver.finish())
            if self.spec.checkpoint.async_save:
                self.saver.begin(self.state, self.rng)
            else:
                self._announce(self.saver.save(self.state, self.rng))

    def poll_save(self) -> None:
        """Notice that a save in the background has become whole, or failed."""
        if self.saver:
            with self._spared(StorageError):
                self._announce(self.saver.poll())

    def save_now(self) -> None:
        """Save the last finished step, unless it is, and wait until it is whole; that a save before failed is told."""
        assert self.saver is not None, "checkpoints are off"
        with self.board.phase(TrainPhase.SAVE):
            with self._spared(StorageError, SaveError):
                self._announce(self.saver.finish())
            if not self.saver.holds(self.state.step):
                self._announce(self.saver.save(self.state, self.rng))

    def depend_on(self, versions: Versions) -> None:
        """What is noted from now on, on rank 0: a rollout server joined that computes otherwise than the others."""
        self._lead.depend_on(versions)
        if self.saver:
            self.saver.versions = versions

    @contextmanager
    def _spared(self, *errors: type[Exception]) -> Iterator[None]:
        """A save that fails costs no step: training goes on, the status tells of it, and it is tried again.

        All ranks hear of such a failure in the same place, so they go on alike. A rank that is gone is not spared.
        """
        try:
            yield
        except AbsentRankError:
            raise
        except errors as error:
            self.due.failed(self.state.step)
            self.board.save_failed(f"{error} Training goes on, and saving is tried again.")

    def _announce(self, saved: Saved | None) -> None:
        if saved is None:
            return
        self.due.saved()
        count = self.leader.saved(saved.manifest.step) if self.leader else None
        self.board.saved(saved.facts, count, saved.seconds)

    @property
    def _lead(self) -> Leader:
        assert self.leader is not None, "only rank 0 leads"
        return self.leader


def _told(result: StepResult) -> Metrics:
    return result.metrics | {"grad_norm": result.grad_norm, "learning_rate": result.learning_rate}
