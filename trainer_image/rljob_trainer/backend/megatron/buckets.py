"""The optimizer's state by parameter, where a rank keeps its gradients in several buckets.

megatron-core 0.16 gathers the state without the padding between buckets, and then cuts parameters out of it where they
stand with the padding: all behind the first bucket come out shifted, without a word. A tied embedding on the last stage
and `overlapGradReduce` make several buckets; what they hold shifts unless its size is a multiple of 128.
"""

from __future__ import annotations

from typing import Any

from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from torch import Tensor


class PaddedOptimizer(DistributedOptimizer):  # type: ignore[misc]  # megatron-core has no types
    """The distributed optimizer, whose state by parameter is that of the parameter."""

    def get_parameter_state_dp_zero(self, *arguments: Any, **options: Any) -> Any:
        state = super().get_parameter_state_dp_zero(*arguments, **options)
        if state is not None:
            for number, buffer in enumerate(self.buffers):
                for tensors in state[number].values():
                    tensors.update({name: with_padding(value, buffer) for name, value in tensors.items()})
        return state


def with_padding(value: Any, buffer: Any) -> Any:
    """A tensor over all buckets of `buffer`, each where it stands there; anything else stays what it is."""
    if not isinstance(value, Tensor) or len(buffer.buckets) == 1:
        return value
    padded, start = value.new_zeros(buffer.numel), 0
    for bucket in buffer.buckets:
        end = start + bucket.numel_unpadded
        padded[bucket.offset : bucket.offset + bucket.numel_unpadded] = value[start:end]
        start = end
    return padded
