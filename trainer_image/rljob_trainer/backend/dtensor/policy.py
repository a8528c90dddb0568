"""What the backend computes: log-probabilities of the tokens that were generated, without whole logits in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rljob_trainer.backend.logprobs import selected_logprobs

LOGITS_AT_A_TIME = 2**26
"""Most logits alive in float32 at once: 256 MiB."""


class Policy(nn.Module):
    """A causal language model that answers with log-probabilities instead of logits.

    One module, so that FSDP gathers the head's weights around all of it.
    """

    def __init__(
        self, hf: nn.Module, temperature: float, top_p: float, logits_at_a_time: int = LOGITS_AT_A_TIME
    ):
        super().__init__()
        self.hf: Any = hf
        self.temperature, self.top_p = temperature, top_p
        self.logits_at_a_time = logits_at_a_time

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """float32 [B, T], aligned as in `Batch`: 0 where the mask is 0.

        There is no attention mask: padding stands on the right, and no token sees what comes after it.
        """
        hidden_BTH = self.hf.model(input_ids=tokens_BT, use_cache=False).last_hidden_state
        row_N, place_N = _generated(mask_BT)
        logprobs_N = self._head(hidden_BTH[row_N, place_N - 1], tokens_BT[row_N, place_N])
        logprobs_BT = torch.zeros_like(mask_BT).index_put((row_N, place_N), logprobs_N)
        return logprobs_BT * mask_BT

    def _head(self, hidden_NH: Tensor, tokens_N: Tensor) -> Tensor:
        """In pieces; the backward pass makes the logits of a piece again instead of keeping those of all."""
        size = max(1, self.logits_at_a_time // self.hf.config.vocab_size)
        bounds = [*range(0, len(tokens_N), size), len(tokens_N)]
        if len(bounds) == 2:
            return self._piece(hidden_NH, tokens_N)
        pieces = [
            checkpoint(
                self._piece, hidden_NH[a:b], tokens_N[a:b], use_reentrant=False, preserve_rng_state=False
            )
            for a, b in pairwise(bounds)
        ]
        return torch.cat(pieces)

    def _piece(self, hidden_nH: Tensor, tokens_n: Tensor) -> Tensor:
        return selected_logprobs(self.hf.lm_head(hidden_nH), tokens_n, self.temperature, self.top_p)


def _generated(mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and places of generated tokens. Never none: the head has to run on every rank, or FSDP's ranks part."""
    row_N, place_N = mask_BT[:, 1:].nonzero(as_tuple=True)
    if not len(row_N):
        row_N = place_N = torch.zeros(1, dtype=torch.int64, device=mask_BT.device)
    return row_N, place_N + 1
