"""How the tokens of a row are laid over ranks that share rows: context ranks each run some of the positions.

Each of C context ranks holds two of 2C equal pieces, one from either end: under a causal mask later positions cost
more, and so all ranks cost alike. This is the order in which Megatron deals out rotary positions.
"""

from __future__ import annotations

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from torch import Tensor, nn

from rljob_trainer.backend.megatron.parallel import Place


def widened(tokens_bT: Tensor, place: Place) -> Tensor:
    """Tokens with padding on the right, until positions divide by the ranks that share them: [b, W]."""
    pieces = 2 * place.contexts if place.contexts > 1 else 1
    multiple = pieces * (place.tensors if place.sequence else 1)
    return nn.functional.pad(tokens_bT, (0, -tokens_bT.shape[1] % multiple))


def positions_of(rank: int, contexts: int, width: int) -> Tensor:
    """The positions [width / contexts] of one context rank, in its own order."""
    if contexts == 1:
        return torch.arange(width)
    pieces = torch.arange(width).chunk(2 * contexts)
    return torch.cat([pieces[rank], pieces[-1 - rank]])


def gathered(x_t: Tensor, contexts: int, *, same_use: bool) -> Tensor:
    """Positions of all context ranks, in order along the first axis: [W, …] from [t, …]. Collective.

    The gradient of a position goes back to the rank that holds it. With `same_use` all ranks do the same with the
    result, and each keeps its own part of the gradient; else the parts of all ranks are added up.
    """
    if contexts == 1:
        return x_t
    group = parallel_state.get_context_parallel_group()
    x_W = gather_from_sequence_parallel_region(x_t, tensor_parallel_output_grad=not same_use, group=group)
    order = torch.cat([positions_of(rank, contexts, len(x_W)) for rank in range(contexts)])
    in_order: Tensor = x_W[order.argsort().to(x_W.device)]
    return in_order
