"""Experts on vLLM's CPU: packed again after every update, as they were when the server loaded them.

vLLM 0.32 packs the matrices of experts for its kernel when it first loads them, and leaves that out when it loads them
again: the kernel then reads plain matrices as packed ones, and log-probabilities are wrong by more than 1 without an
error. Used by the receiving end inside a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

PROCESS = "process_weights_after_loading"


def pack_on_reload(model: nn.Module) -> None:
    """Let each layer with experts on the CPU pack what it loads from now on. Again is without effect."""
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        experts = getattr(getattr(method, "moe_kernel", None), "fused_experts", None)
        if isinstance(experts, CPUUnquantizedExperts) and PROCESS not in vars(method):
            setattr(method, PROCESS, _packing(getattr(method, PROCESS), experts))


def _packing(process: Callable[[Any], None], experts: Any) -> Callable[[Any], None]:
    def process_and_pack(layer: Any) -> None:
        process(layer)
        experts.process_weights_after_loading(layer)

    return process_and_pack
