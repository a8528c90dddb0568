"""Megatron's distributed optimizer, and the mending it needs where there is no Transformer Engine.

Without Transformer Engine or Apex, megatron-core 0.16 falls back to torch's AdamW, whose per-parameter `step`
its distributed optimizer does not expect: loading fails twice, and then gives all parameters one shared
counter, which spoils the bias correction without a word.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.distrib_optimizer import HAVE_APEX_OR_TE
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from rljob_api.parallelism import Optimizer as OptimizerSpec
from rljob_trainer.backend.adam import set_numbers
from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.buckets import PaddedOptimizer
from rljob_trainer.backend.protocol import NonFiniteGradientError

logger = logging.getLogger(__name__)


def wrap(
    chunks: list[GPTModel],
    config: TransformerConfig,
    *,
    check_for_nan: bool,
    bucket_size: int | None,
    overlap_gather: bool,
) -> list[DistributedDataParallel]:
    """Gradient buffers in float32, reduced over replicas once per update: a bucket as soon as it is full, or all.

    With `overlap_gather` an update leaves each replica with its own part of it, until `gather` or a forward pass.
    """
    for chunk in chunks:
        _set_experts_apart(chunk)
    buffers = DistributedDataParallelConfig(
        use_distributed_optimizer=True,
        grad_reduce_in_fp32=True,
        check_for_nan_in_grad=check_for_nan,
        overlap_grad_reduce=bucket_size is not None,
        bucket_size=bucket_size,
        overlap_param_gather=overlap_gather,
    )
    wrapped = [
        DistributedDataParallel(config, buffers, Float16Module(config, chunk) if config.bf16 else chunk)
        for chunk in chunks
    ]
    for ddp in wrapped:
        for group in (*ddp.bucket_groups, *ddp.expert_parallel_bucket_groups):
            group.check_grads = _logged(group.check_grads)
    no_sync = [ddp.no_sync for ddp in wrapped]
    config.no_sync_func = no_sync if len(wrapped) > 1 else no_sync[0]
    config.finalize_model_grads_func = sum_gradients
    return wrapped


def _set_experts_apart(chunk: GPTModel) -> None:
    """Sum the gradients of experts over the ranks that hold the same part of them, whatever the layout.

    Megatron does so only for `expert` above 1. Else it sums them over those of the matrices of attention, which are
    others wherever `expertTensor` is not `tensor`: each rank would keep a part of the sum, and update by that.
    """
    for name, parameter in chunk.named_parameters():
        if ".experts." in name:
            parameter.allreduce = False


def _logged(check: Callable[..., None]) -> Callable[..., None]:
    """Megatron's check of a bucket, which names the rank and the bucket in the log instead of raising.

    It would raise on that rank alone, before a reduction that the others then wait in. The reduction carries the NaN
    to all of them, and `update` raises on all.
    """

    def checked(*arguments: object, **options: object) -> None:
        try:
            check(*arguments, **options)
        except RuntimeError as finding:
            logger.error("%s", finding)

    return checked


def sum_gradients(model: list[nn.Module], _tokens: Tensor | None = None, **rest: Any) -> None:
    """Megatron's end of a backward pass without its division by tokens: our losses are divided already."""
    finalize_model_grads(model, None, **rest)


def build_optimizer(chunks: list[DistributedDataParallel], spec: OptimizerSpec) -> MegatronOptimizer:
    """AdamW over this rank's slice of the parameters; the learning rate is set before every update."""
    config = OptimizerConfig(
        optimizer="adam",
        lr=0.0,
        min_lr=0.0,
        adam_beta1=spec.beta1,
        adam_beta2=spec.beta2,
        adam_eps=spec.eps,
        weight_decay=spec.weight_decay,
        clip_grad=spec.max_grad_norm,
        bf16=chunks[0].config.bf16,
        params_dtype=chunks[0].config.params_dtype,
        use_distributed_optimizer=True,
        overlap_param_gather=chunks[0].ddp_config.overlap_param_gather,
    )
    with cpu.stand_in():
        optimizer = get_megatron_optimizer(config, chunks)
    set_options(optimizer, spec)
    for part in optimizer.chained_optimizers:
        part.__class__ = PaddedOptimizer if HAVE_APEX_OR_TE else MendedOptimizer
    return optimizer


def set_options(optimizer: MegatronOptimizer, spec: OptimizerSpec) -> None:
    """At its start, and again after its state was loaded."""
    for group in optimizer.param_groups:
        # `wd_mult` is 0 for 1-D parameters. Only Megatron's own scheduler would apply it, and there is none here.
        set_numbers(group, spec, group["wd_mult"])


def update(optimizer: MegatronOptimizer, learning_rate: float, *, check_finite: bool) -> float:
    """Clip and apply the accumulated gradients; returns their norm before clipping.

    Raises `NonFiniteGradientError` on all ranks alike (the norm is over all) before anything has changed.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    with cpu.stand_in():
        optimizer.prepare_grads()
        norm = float(optimizer.get_grad_norm())
        if check_finite and not math.isfinite(norm):
            raise NonFiniteGradientError(f"the gradient norm is {norm}")
        optimizer.step()
    return norm


def gather(chunks: Iterable[DistributedDataParallel], parameters: Iterable[nn.Parameter]) -> None:
    """Wait for what other replicas updated of `parameters`; the bucket after each of them is on its way then.

    Collective. What is there already costs nothing.
    """
    late = [chunk.param_to_bucket_group for chunk in chunks if chunk.ddp_config.overlap_param_gather]
    for parameter in parameters:
        for groups in late:
            if parameter in groups:
                groups[parameter].finish_param_sync()


class MendedOptimizer(PaddedOptimizer):
    """The distributed optimizer over torch's AdamW, able to save before its first update and to load."""

    def state_dict(self) -> Any:
        self._allocate()
        return super().state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        for state in self.optimizer.state.values():
            state["step"] = state["step"].clone()

    @torch.no_grad()
    def _set_main_param_and_optimizer_states(self, model_param: Tensor, tensors: dict[str, Tensor]) -> None:
        group, order = self.model_param_group_index_map[model_param]
        main = self.optimizer.param_groups[group]["params"][order]
        for name, own in {"param": main, **self.optimizer.state[main]}.items():
            if name != "step":
                own.copy_(tensors[name])

    def _allocate(self) -> None:
        """Give every parameter the state that AdamW's first update would start from."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if not self.optimizer.state[parameter]:
                    self.optimizer.state[parameter].update(
                        step=torch.tensor(0.0),
                        exp_avg=torch.zeros_like(parameter),
                        exp_avg_sq=torch.zeros_like(parameter),
                    )
