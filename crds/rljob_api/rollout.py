"""`spec.rollout`: the vLLM servers that answer."""

from __future__ import annotations

from pydantic import Field

from .base import Fraction, ShortText, Spec
from .roles import Role


class Vllm(Spec):
    """Settings of vLLM itself."""

    gpu_memory_utilization: Fraction = "0.9"
    """Share of a GPU's memory that vLLM takes; without effect on CPU."""
    kv_cache_mib: int = Field(128, ge=16, le=1_048_576)
    """Memory of the KV cache on CPU, in MiB; on GPU it is what remains of `gpuMemoryUtilization`."""
    max_model_len: int | None = Field(None, ge=8, le=16_777_216)
    """Longest prompt plus completion, in tokens; absent means what the model allows."""
    max_num_seqs: int = Field(256, ge=1, le=65536)
    """Sequences that one server works on at a time."""
    enforce_eager: bool | None = None
    """Skip graph capture: starts sooner, runs slower. Absent means true on CPU and false on GPU."""
    extra_args: list[ShortText] = Field([], max_length=64)
    """More arguments of vLLM's OpenAI server, as written on its command line."""


class Rollout(Role):
    """vLLM servers, a pod each. One that fails is replaced while the trainers go on."""

    replicas: int = Field(1, ge=1, le=4096)
    """Servers."""
    min_replicas: int = Field(1, ge=1, le=4096)
    """Servers below which training waits."""
    tensor_parallel: int = Field(1, ge=1, le=64)
    """GPUs of one server."""
    vllm: Vllm = Vllm()
    """Settings of vLLM itself."""
