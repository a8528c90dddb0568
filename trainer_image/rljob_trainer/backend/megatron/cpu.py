"""Stand-ins for CUDA, so that megatron-core 0.16 runs on CPU with gloo. Where CUDA is, they do nothing.

Megatron names the device `cuda` outright. Its own modules therefore get a `torch` whose factories and random
state mean the CPU; everybody else keeps the real one, because a patched `torch.zeros` would silently spoil
the rotary frequencies that transformers computes while it loads a model. Methods of tensors and
modules cannot be scoped like that: they are exchanged for as long as `stand_in` lasts.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.tensor_parallel import random as megatron_random
from megatron.core.transformer.moe import moe_utils, token_dispatcher
from torch import Tensor, nn

FACTORIES = (
    *("tensor", "zeros", "ones", "empty", "full", "arange", "rand", "randn", "randint"),
    *("empty_like", "zeros_like", "ones_like", "full_like"),
)
CPU = torch.device("cpu")


class _Shadow:
    """A module whose names come from `replacements` first and from the real one otherwise."""

    def __init__(self, real: object, replacements: dict[str, object]) -> None:
        self._real = real
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def adapt() -> None:
    """Give the Megatron modules loaded by now a `torch` without CUDA. Call again after a late import."""
    if torch.cuda.is_available():
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("megatron.") and getattr(module, "torch", None) is torch:
            module.torch = _TORCH  # type: ignore[attr-defined]  # a name in somebody else's module
    # Without these, the tracker of random states queues its work until CUDA comes up, which is never: tensor
    # parallel ranks would then silently draw from one another's streams.
    megatron_random._set_cuda_rng_state = _set_rng_state
    megatron_random._get_cuda_rng_state = _get_rng_state
    # Split sizes come as tensors where CUDA made them, and are moved here: then as numbers, else not at all.
    for module in (moe_utils, token_dispatcher):
        module.maybe_move_tensor_to_cpu = _as_numbers
    moe_utils.te_general_gemm = None  # named, but never defined without Transformer Engine
    # Bound when it was defined, so the module's own `torch` does not reach it.
    ShardedTensor.init_data.__defaults__ = (_TORCH.empty,)
    # "CPU RNG state changed within GPU RNG context": of course it did, the two are one generator here.
    logging.getLogger(megatron_random.__name__).setLevel(logging.ERROR)


@contextmanager
def stand_in() -> Iterator[None]:
    """While it lasts, `.cuda()` stays on the CPU and CPU tensors call themselves `torch.cuda.*Tensor`.

    The distributed optimizer and gradient clipping dispatch on that name.
    """
    if torch.cuda.is_available():
        yield
        return
    kept = Tensor.cuda, nn.Module.cuda, Tensor.type
    real_type = Tensor.type

    def named_type(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        name = real_type(tensor, *args, **kwargs)
        return name.replace("torch.", "torch.cuda.", 1) if isinstance(name, str) else name

    try:
        Tensor.cuda = nn.Module.cuda = _same  # type: ignore[method-assign]  # for as long as this lasts
        Tensor.type = named_type  # type: ignore[method-assign, assignment]  # likewise
        yield
    finally:
        Tensor.cuda, nn.Module.cuda, Tensor.type = kept  # type: ignore[method-assign]  # its own again


def _same(self: Any, *_: object, **__: object) -> Any:
    return self


def _on_cpu(factory: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)  # for copies to a GPU
        return factory(*args, **kwargs)

    return make


def _as_numbers(value: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
    return value.numpy() if as_numpy and isinstance(value, Tensor) else value


def _seed(seed: int) -> None:
    # Not `torch.manual_seed`: that one seeds CUDA too and would come back here.
    torch.default_generator.manual_seed(int(seed))


def _set_rng_state(state: Tensor, *_: object, **__: object) -> None:
    torch.set_rng_state(state)


def _get_rng_state(*_: object, **__: object) -> Tensor:
    return torch.get_rng_state()


class _Stream:
    """A stream where work is done at once; an event of it has always happened."""

    def wait_stream(self, _: object) -> None: ...

    def synchronize(self) -> None: ...

    def record_event(self) -> _Stream:
        return self


_STREAM = _Stream()

_CUDA = _Shadow(
    torch.cuda,
    {
        "current_device": lambda: CPU,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "Stream": lambda: _STREAM,
        "current_stream": lambda: _STREAM,
        "stream": lambda _: nullcontext(),
        "manual_seed": _seed,
        "get_rng_state": _get_rng_state,
        "set_rng_state": _set_rng_state,
        "random": SimpleNamespace(get_rng_state=_get_rng_state, set_rng_state=_set_rng_state),
    },
)
_TORCH = _Shadow(torch, {"cuda": _CUDA, **{name: _on_cpu(getattr(torch, name)) for name in FACTORIES}})
