"""How Llama, Qwen2 and Qwen3 are cut over tensor-parallel ranks.

Every parameter becomes a DTensor on the tensor-parallel mesh, the small ones as replicas: then all gradients live on
one mesh (a norm over them is one library call), and a replica's gradient is the same on all ranks by construction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from rljob_api.base import Manifest
from rljob_trainer.errors import Mistake

HEADS = 2
"""The dimension of heads in what `q_norm` and `k_norm` see: [B, T, heads, head_dim]."""


class Replicated(ParallelStyle):
    """Every rank holds the whole parameter and applies it to its own part of the input.

    Where inputs are cut (heads), a rank's gradient is a part of the whole one; DTensor knows and adds the parts up.
    """

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(
            module,
            device_mesh,
            # Both are declared to return nothing, and used for what they return.
            input_fn=self._enter,  # type: ignore[arg-type] # see above
            output_fn=_leave,  # type: ignore[arg-type] # see above
        )

    def _enter(self, _: nn.Module, inputs: Any, mesh: DeviceMesh) -> tuple[Tensor]:
        return (DTensor.from_local(inputs[0], mesh, [self.placement], run_check=False),)


def _leave(_: nn.Module, output: Any, __: DeviceMesh) -> Tensor:
    local: Tensor = output.to_local()
    return local


def cut(model: Any, mesh: DeviceMesh, config: Manifest) -> None:
    """Spread `model`, one of transformers', over `mesh` in place."""
    tied = config["tie_word_embeddings"]
    parallelize_module(model, mesh, _root_plan())
    for layer in model.model.layers:
        parallelize_module(layer, mesh, _layer_plan(layer))
    if tied:  # both were cut alike, but each for itself
        model.lm_head.weight = model.model.embed_tokens.weight


def refuse_uneven(config: Manifest, tensor: int) -> None:
    """Raises `Mistake` if heads or columns cannot be dealt out evenly."""
    for key in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        if config[key] % tensor:
            raise Mistake(
                f"spec.parallelism.tensor: {tensor} does not divide the model's {key} = {config[key]};"
                f" choose a divisor of it."
            )


def _root_plan() -> dict[str, ParallelStyle]:
    return {
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),
        "model.norm": Replicated(Replicate()),
        "lm_head": ColwiseParallel(output_layouts=Replicate()),
    }


def _layer_plan(layer: nn.Module) -> dict[str, ParallelStyle]:
    columns = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
    rows = ("self_attn.o_proj", "mlp.down_proj")
    head_norms = [name for name in ("self_attn.q_norm", "self_attn.k_norm") if _has(layer, name)]
    return {
        "input_layernorm": Replicated(Replicate()),
        "post_attention_layernorm": Replicated(Replicate()),
        **{name: ColwiseParallel() for name in columns},
        **{name: RowwiseParallel() for name in rows},
        **{name: Replicated(Shard(HEADS)) for name in head_norms},
    }


def _has(layer: nn.Module, name: str) -> bool:
    return name in dict(layer.named_modules())
