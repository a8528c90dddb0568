"""Attention where there is no Transformer Engine: torch's own kernels, which need no matrix of all scores.

Megatron's makes that matrix, in memory and time that grow with the square of a row's length.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

from megatron.core.tensor_parallel import get_cuda_rng_tracker
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rljob_trainer.backend.megatron.sequence import gathered


class Attention(DotProductAttention):  # type: ignore[misc]  # megatron-core has no types
    """In Megatron's place in a layer, with its scale and its dropout."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, *_: Any, **__: Any
    ) -> Tensor:
        """[t, b, heads x head_dim] of query [t, b, heads, head_dim], and key and value [T, b, groups, head_dim].

        `hidden` [1, 1, t, T] is True where a query may not look. Each position is there (t = T) or those of this
        context rank, and then a query sees none that come after it.
        """
        whole = query.shape[0] == key.shape[0]
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        rate = self.attention_dropout.p if self.training else 0.0
        # As in Megatron's: tensor ranks hold different heads, and draw for them from streams of their own.
        own_stream = rate > 0 and not self.config.sequence_parallel
        with get_cuda_rng_tracker().fork() if own_stream else nullcontext():
            context = scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if whole else ~hidden,
                dropout_p=rate,
                is_causal=whole,  # says the same as the mask, and skips what it hides
                scale=self.softmax_scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        return context.permute(2, 0, 1, 3).flatten(2)


class ContextAttention(Attention):
    """When context ranks hold different positions: each gathers all keys and values for its own queries. Memory for
    these is that of the whole row."""

    def __init__(self, config: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        self.contexts = config.context_parallel_size
        whole = copy.copy(config)
        whole.context_parallel_size = 1  # it refuses more, for want of what `forward` does here
        super().__init__(whole, *args, **kwargs)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Query, key and value: [t, b, heads, head_dim] of this rank's positions."""
        key, value = (gathered(x, self.contexts, same_use=False) for x in (key, value))
        return super().forward(query, key, value, *args, **kwargs)
