"""The Megatron backend as the loop sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt.gpt_model import GPTModel
from torch import Tensor
from torch import distributed as dist

from rljob_api.job import JobSpec
from rljob_api.parallelism import Megatron, Recompute
from rljob_trainer.backend.determinism import prefer_determinism
from rljob_trainer.backend.hf_files import write_hf_model
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.backend.loggers import set_logging_level
from rljob_trainer.backend.megatron import checkpoint, cpu, optimizer, rng
from rljob_trainer.backend.megatron.architecture import TRAINING_DTYPE, read_architecture
from rljob_trainer.backend.megatron.checkpoint import CheckpointOptions, State
from rljob_trainer.backend.megatron.converted import load_converted
from rljob_trainer.backend.megatron.export import Export
from rljob_trainer.backend.megatron.fit import refuse_uneven
from rljob_trainer.backend.megatron.forward import Metrics, Runner
from rljob_trainer.backend.megatron.model import build_model, transformer_config
from rljob_trainer.backend.megatron.optimizer import set_options
from rljob_trainer.backend.megatron.parallel import seed_rank, take_place
from rljob_trainer.backend.protocol import LossFunction, Poll, StepResult, Written, no_poll
from rljob_trainer.backend.shares import plan_shares, share_of
from rljob_trainer.batch import Batch
from rljob_trainer.errors import Mistake
from rljob_trainer.schedule import learning_rate


class MegatronBackend:
    """A decoder, dense or with experts, under every parallelism of `spec.parallelism`. Fulfils `Backend`."""

    def __init__(self, spec: JobSpec, source: Path, converted: Path, *, reference: bool) -> None:
        """Build what the Hugging Face directory `source` describes, with the weights in `converted`. Collective.

        `reference` keeps a frozen copy of them.

        Raises `Mistake` for a model or layout it cannot train.
        """
        prefer_determinism()
        self.spec, self.source, self.converted = spec, source, converted
        self.options = spec.backend_options
        self.saving = CheckpointOptions.of(spec.checkpoint)
        set_logging_level(self.options)
        # There is a rule for it by now: this is for jobs that were accepted before.
        if float(spec.algorithm.sampling.top_p) != 1:
            raise Mistake(
                f"spec.algorithm.sampling.topP: {spec.algorithm.sampling.top_p} needs the whole vocabulary on one "
                "rank, which the megatron backend has not; use 1.0, or backend: dtensor"
            )
        self.architecture = read_architecture(source)
        refuse_uneven(self.architecture, spec.parallelism)
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if spec.on_gpu else torch.device("cpu")
        )
        self.dtype = TRAINING_DTYPE[self.device.type]
        self.place = take_place(spec.parallelism, self.options.distributed_timeout_minutes)
        self.layout = layout_of(spec)
        self.writers = dist.new_group(backend="gloo", timeout=self.options.distributed_timeout)
        seed_rank(spec.algorithm.grpo.seed, self.place, self.layout.rng_sharding)
        own = self.options if isinstance(self.options, Megatron) else Megatron()
        self.chunks = self._chunks(own.attention_dropout, own.recompute)
        check, size = self.options.check_for_nan_in_grad, self.layout.bucket_size
        self.ddp = optimizer.wrap(
            self.chunks,
            self.chunks[0].config,
            check_for_nan=check,
            bucket_size=size,
            overlap_gather=own.overlap_param_gather,
        )
        self.optimizer = optimizer.build_optimizer(self.ddp, self.options.optimizer)
        self.gather = partial(optimizer.gather, self.ddp)
        self.export = Export(self.chunks, self.architecture, self.place, self.dtype, gather=self.gather)
        self.updates = 0
        self.runner = self._runner(self.ddp)
        self.reference = self._runner(self._chunks(0.0, Recompute.NONE)) if reference else None

    def logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        return self._logprobs(self.runner, batch, poll)

    def reference_logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        if self.reference is None:
            raise RuntimeError("the backend was built without a reference model")
        return self._logprobs(self.reference, batch, poll)

    def train_step(self, batch: Batch, loss: LossFunction, poll: Poll) -> StepResult:
        poll()
        for chunk in self.ddp:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        metrics = self.runner.accumulate(self._share(batch), loss, poll)
        poll()
        learning_rate = self._learning_rate()
        norm = optimizer.update(
            self.optimizer, learning_rate, check_finite=self.options.check_for_nan_in_grad
        )
        self.updates += 1
        return StepResult(self._summed(metrics), norm, learning_rate)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return self.export.weights()

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        state = self._state(self.saving, optimizer=optimizer, rng_state=rng, loading=False)
        return checkpoint.save(state, directory, self.saving, self.writers, background=background)

    def load_checkpoint(self, directory: Path, *, optimizer: bool, rng: bool) -> None:
        options, own = self.saving.to_load(directory), self.rng_state() if rng else None
        template = self._state(options, optimizer=optimizer, rng_state=own, loading=True)
        state = checkpoint.load(template, directory, options)
        for number, chunk in enumerate(self.chunks):
            chunk.load_state_dict(state["model"][str(number)])
        if optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
            set_options(self.optimizer, self.options.optimizer)
        else:
            self.optimizer.reload_model_params()
        self.updates = state["updates"]
        if rng:
            self.set_rng_state(state["rng"][0])

    def save_hf_model(self, directory: Path) -> None:
        write_hf_model(self.weights(), self.dtype, self.source, directory, self.writers)

    def rng_state(self) -> object:
        return rng.read_rng()

    def set_rng_state(self, state: object) -> None:
        assert isinstance(state, rng.MegatronRng)
        rng.write_rng(state)

    def _chunks(self, dropout: float, recompute: Recompute) -> list[GPTModel]:
        """The model's parts on this rank: one, or as many as there are virtual stages."""
        config = transformer_config(self.architecture, self.place, self.dtype, dropout, recompute)
        chunks = [
            build_model(self.architecture, config, self.place, number).to(self.device)
            for number in range(self.place.chunks)
        ]
        load_converted(chunks, self.converted, self.saving)
        return chunks

    def _runner(self, chunks: Sequence[torch.nn.Module]) -> Runner:
        temperature = float(self.spec.algorithm.sampling.temperature)
        return Runner(chunks, self.place, self.architecture.vocab, temperature)

    def _share(self, batch: Batch) -> list[Batch]:
        plan = plan_shares(batch.lengths_B, self.place.replicas, self.options.micro_batch_tokens)
        return share_of(batch, plan, self.place.replica, self.device)

    def _logprobs(self, runner: Runner, batch: Batch, poll: Poll) -> Tensor:
        """Last stages fill in their replica's rows; the sum over replicas goes to the other stages."""
        poll()
        plan = plan_shares(batch.lengths_B, self.place.replicas, self.options.micro_batch_tokens)
        parts = runner.logprobs(share_of(batch, plan, self.place.replica, self.device), poll)
        logprobs_BT = torch.zeros(batch.mask_BT.shape, device=self.device)
        for part, rows in zip(parts, plan, strict=False):
            row = rows[self.place.replica]
            if len(row):
                logprobs_BT[row, : part.shape[1]] = part
        return self._from_last_stage(logprobs_BT).cpu()

    def _from_last_stage(self, value: Tensor) -> Tensor:
        """The sum over replicas of what their last stages hold, on all ranks."""
        dist.all_reduce(value, group=parallel_state.get_data_parallel_group())
        stages = parallel_state.get_pipeline_model_parallel_group()
        dist.broadcast(value, dist.get_global_rank(stages, self.place.stages - 1), group=stages)
        return value

    def _summed(self, metrics: list[Metrics]) -> dict[str, float]:
        """Sums over micro-batches and replicas, on all ranks; only the last stage knows their names."""
        told: list[dict[str, float] | None] = [None]
        if self.place.is_last_stage:
            names = list(metrics[0])
            sums = torch.stack([torch.stack([m[name].double() for m in metrics]).sum() for name in names])
            dist.all_reduce(sums, group=parallel_state.get_data_parallel_group())
            told = [dict(zip(names, sums.tolist(), strict=True))]
        stages = parallel_state.get_pipeline_model_parallel_group()
        dist.broadcast_object_list(told, dist.get_global_rank(stages, self.place.stages - 1), group=stages)
        assert told[0] is not None
        return told[0]

    def _learning_rate(self) -> float:
        grpo = self.spec.algorithm.grpo
        return learning_rate(self.updates, grpo.learning_rate, grpo.max_steps, self.options.scheduler)

    def _state(
        self, options: CheckpointOptions, *, optimizer: bool, rng_state: object, loading: bool
    ) -> State:
        self.gather(parameter for chunk in self.chunks for parameter in chunk.parameters())
        model = {
            str(number): chunk.sharded_state_dict(metadata=options.metadata)
            for number, chunk in enumerate(self.chunks)
        }
        state: State = {"model": model, "updates": self.updates}
        if optimizer:
            with cpu.stand_in():
                state["optimizer"] = self.optimizer.sharded_state_dict(
                    model, is_loading=loading, metadata=options.metadata
                )
        if rng_state is not None:
            state["rng"] = rng.sharded_rng(rng_state, self.place, self.layout.rng_sharding)
        return state
