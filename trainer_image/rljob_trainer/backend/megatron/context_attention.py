"""Attention when context ranks hold different positions: each gathers all keys and values for its own queries.

For where there is no Transformer Engine. Memory for keys and values is that of the whole row.
"""

from __future__ import annotations

import copy
from typing import Any

from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from rljob_trainer.backend.megatron.sequence import gathered


class ContextAttention(DotProductAttention):  # type: ignore[misc]  # megatron-core has no types
    """Megatron's attention, which takes as many queries as there are rows in its mask."""

    def __init__(self, config: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        self.contexts = config.context_parallel_size
        whole = copy.copy(config)
        whole.context_parallel_size = 1  # it refuses more, for want of what `forward` does here
        super().__init__(whole, *args, **kwargs)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Query, key and value: [t, b, heads, head_dim] of this rank's positions."""
        key, value = (gathered(x, self.contexts, same_use=False) for x in (key, value))
        context: Tensor = super().forward(query, key, value, *args, **kwargs)
        return context
