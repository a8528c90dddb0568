"""Builds the model of a Hugging Face directory, spread over the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from rljob_api.job import JobSpec
from rljob_trainer.backend.dtensor import ARCHITECTURES
from rljob_trainer.backend.dtensor.load import fill
from rljob_trainer.backend.dtensor.policy import Policy
from rljob_trainer.backend.dtensor.tensor_parallel import cut, refuse_uneven
from rljob_trainer.backend.hf_files import read_config
from rljob_trainer.errors import Mistake


@dataclass(frozen=True)
class ModelOptions:
    """What of the spec shapes a model."""

    attention_dropout: float
    activation_checkpointing: bool
    temperature: float
    top_p: float
    trust_remote_code: bool
    bf16: bool
    """Compute in bfloat16; weights and gradients stay float32."""

    @classmethod
    def of(cls, spec: JobSpec) -> ModelOptions:
        sampling, dtensor = spec.algorithm.sampling, spec.dtensor
        return cls(
            attention_dropout=spec.backend_options.attention_dropout,
            activation_checkpointing=dtensor is not None and dtensor.activation_checkpointing,
            temperature=float(sampling.temperature),
            top_p=float(sampling.top_p),
            trust_remote_code=spec.model.trust_remote_code,
            bf16=spec.on_gpu,
        )


def make_mesh(spec: JobSpec, world: int) -> DeviceMesh:
    """Data parallel x tensor parallel; ranks that share matrices are neighbours, on one node."""
    tensor = spec.parallelism.tensor
    if world % tensor:
        raise Mistake(
            f"spec.parallelism.tensor: {tensor} does not divide the {world} training ranks; choose a divisor."
        )
    device = "cuda" if spec.on_gpu else "cpu"
    return init_device_mesh(device, (world // tensor, tensor), mesh_dim_names=("dp", "tp"))


def build_policy(source: Path, mesh: DeviceMesh, options: ModelOptions, group: ProcessGroup) -> Policy:
    """The model in `source`, float32, sharded over `mesh`; a rank has memory for its own shards only. Collective.

    `group` is gloo. Raises `Mistake` for a model that it cannot spread.
    """
    hf = _empty(source, options)
    config = hf.config.to_dict()
    tensor = mesh["tp"].size()
    if tensor > 1:
        refuse_uneven(config, tensor)
        cut(hf, mesh["tp"], config)
    if options.activation_checkpointing:
        hf.gradient_checkpointing_enable({"use_reentrant": False})
    policy = Policy(hf, options.temperature, options.top_p)
    _shard(policy, mesh["dp"], options.bf16)
    fill(policy, hf, source, torch.device(mesh.device_type), group)
    return policy


def _empty(source: Path, options: ModelOptions) -> Any:
    """Shapes without memory. Attention dropout needs the eager kernel: the fused ones draw from the RNG in ways of
    their own."""
    from transformers import AutoModelForCausalLM

    config = read_config(source, trust_remote_code=options.trust_remote_code)
    if config.model_type not in ARCHITECTURES:
        raise Mistake(
            f"spec.model.source: the dtensor backend does not know the architecture {config.model_type!r}; it trains"
            f" {', '.join(ARCHITECTURES)}. Choose such a model, or `backend: megatron`, which may know it."
        )
    config.attention_dropout = options.attention_dropout
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation="eager" if options.attention_dropout else "sdpa",
            trust_remote_code=options.trust_remote_code,
        )


def _shard(policy: Policy, mesh: DeviceMesh, bf16: bool) -> None:
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    layers: nn.ModuleList = policy.hf.model.layers
    for layer in [*layers, policy]:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
