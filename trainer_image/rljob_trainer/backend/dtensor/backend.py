"""The dtensor backend as the loop sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from rljob_api.job import JobSpec
from rljob_trainer.backend.determinism import prefer_determinism
from rljob_trainer.backend.dtensor import checkpoint
from rljob_trainer.backend.dtensor.gather import gather
from rljob_trainer.backend.dtensor.model import ModelOptions, build_policy, make_mesh
from rljob_trainer.backend.dtensor.optimizer import build_optimizer, set_options, update
from rljob_trainer.backend.dtensor.policy import Policy
from rljob_trainer.backend.hf_files import write_hf_model
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.backend.protocol import LossFunction, Poll, StepResult, Written, no_poll
from rljob_trainer.backend.rng import RngState, read_rng, seed_rank, write_rng
from rljob_trainer.backend.shares import plan_shares, share_of
from rljob_trainer.batch import Batch
from rljob_trainer.schedule import learning_rate


class DtensorBackend:
    """A Llama, Qwen2 or Qwen3 under data and tensor parallelism. Fulfils `Backend`."""

    def __init__(self, spec: JobSpec, source: Path, *, reference: bool = False) -> None:
        """Build from the Hugging Face directory `source`. Raises `Mistake` for a model or layout it cannot train."""
        prefer_determinism()
        self.spec, self.source, self.options = spec, source, spec.backend_options
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if spec.on_gpu else torch.device("cpu")
        )
        self.mesh = make_mesh(spec, dist.get_world_size())
        self.layout = layout_of(spec)
        self.writers = dist.new_group(backend="gloo", timeout=self.options.distributed_timeout)
        options = ModelOptions.of(spec)

        def build() -> Policy:
            return build_policy(source, self.mesh, options, self.writers)

        self.policy = build()
        self.reference = build().requires_grad_(False) if reference else None
        self.optimizer = build_optimizer(self.policy, self.options.optimizer)
        self.updates = 0
        seed_rank(spec.algorithm.grpo.seed, dist.get_rank())

    def logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        return self._logprobs(self.policy, batch, poll)

    def reference_logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        if self.reference is None:
            raise RuntimeError("this backend was built without a reference model")
        return self._logprobs(self.reference, batch, poll)

    def train_step(self, batch: Batch, loss: LossFunction, poll: Poll) -> StepResult:
        self.policy.train()
        try:
            metrics = self._accumulate(batch, loss, poll)
            poll()
            rate, norm = self._update()
        finally:
            self.optimizer.zero_grad()
        self.updates += 1
        return StepResult(metrics, norm, rate)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        # A tied head is not named a second time.
        return gather(self.policy.hf.named_parameters(), self._serving_dtype())

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        chosen = self.optimizer if optimizer else None
        state = checkpoint.gather_state(self.policy.hf, chosen, self.updates, rng)
        return checkpoint.write(state, directory, self.writers, background=background)

    def load_checkpoint(self, directory: Path, *, optimizer: bool, rng: bool) -> None:
        chosen = self.optimizer if optimizer else None
        state = checkpoint.gather_state(self.policy.hf, chosen, 0, self.rng_state() if rng else None)
        checkpoint.read(state, directory, self.writers)
        checkpoint.apply_state(state, self.policy.hf, self.optimizer)
        set_options(self.optimizer, self.options.optimizer)
        self.updates = state["scheduler"]["updates"]
        if rng:
            self.set_rng_state(checkpoint.rng_of(state))

    def save_hf_model(self, directory: Path) -> None:
        write_hf_model(self.weights(), self._serving_dtype(), self.source, directory, self.writers)

    def rng_state(self) -> object:
        return read_rng()

    def set_rng_state(self, state: object) -> None:
        assert isinstance(state, RngState)
        write_rng(state)

    def _serving_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.spec.on_gpu else torch.float32

    def _share(self, batch: Batch) -> tuple[list[Tensor], list[Batch]]:
        """Rows and micro-batches of this rank's replica."""
        plan = plan_shares(batch.lengths_B, self.layout.data, self.options.micro_batch_tokens)
        replica = self.mesh["dp"].get_local_rank()
        return [part[replica] for part in plan], share_of(batch, plan, replica, self.device)

    @torch.no_grad()
    def _logprobs(self, policy: Policy, batch: Batch, poll: Poll) -> Tensor:
        """Each replica fills in its own rows; the sum over replicas is the whole."""
        assert isinstance(policy, FSDPModule)
        policy.eval()
        logprobs_BT = torch.zeros(batch.mask_BT.shape, device=self.device)
        try:
            for rows, micro in zip(*self._share(batch), strict=True):
                poll()
                part_bT = policy(micro.tokens_BT, micro.mask_BT)
                if len(rows):
                    logprobs_BT[rows.to(self.device), : part_bT.shape[1]] = part_bT
        finally:
            policy.reshard()  # without a backward pass the gathered head would stay in memory
        dist.all_reduce(logprobs_BT, group=self.mesh["dp"].get_group())
        return logprobs_BT.cpu()

    def _accumulate(self, batch: Batch, loss: LossFunction, poll: Poll) -> dict[str, float]:
        sums: list[dict[str, Tensor]] = []
        for micro in self._share(batch)[1]:
            poll()
            value, metrics = loss(self.policy(micro.tokens_BT, micro.mask_BT), micro)
            # FSDP takes the mean over replicas; losses are sums.
            torch.autograd.backward(value * self.layout.data)
            sums.append({"loss": value.detach(), **metrics})
        return self._summed(sums)

    def _summed(self, sums: list[dict[str, Tensor]]) -> dict[str, float]:
        """Over micro-batches and replicas."""
        names = list(sums[0])
        totals = torch.stack([torch.stack([s[name].detach().double() for s in sums]).sum() for name in names])
        dist.all_reduce(totals, group=self.mesh["dp"].get_group())
        return dict(zip(names, totals.tolist(), strict=True))

    def _update(self) -> tuple[float, float]:
        grpo, options = self.spec.algorithm.grpo, self.options
        rate = learning_rate(self.updates, grpo.learning_rate, grpo.max_steps, options.scheduler)
        max_norm, check = options.optimizer.max_grad_norm, options.check_for_nan_in_grad
        return rate, update(self.optimizer, self.policy, rate, max_norm, check_finite=check)
