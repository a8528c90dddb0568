"""Log-probabilities under the distribution that vLLM really samples from: temperature first, then the nucleus. Pure."""

from __future__ import annotations

import torch
from torch import Tensor


def selected_logprobs(logits_NV: Tensor, tokens_N: Tensor, temperature: float, top_p: float) -> Tensor:
    """Log-probability of `tokens_N[n]` under `logits_NV[n]`: float32 [N]. Computed in float32.

    With `top_p` < 1 the distribution is cut to its nucleus and renormalised. A token that was sampled counts as inside
    even where rounding puts it just outside here: it was inside where it was sampled.
    """
    scaled_NV = logits_NV.float() / temperature
    if top_p < 1:
        scaled_NV = scaled_NV.masked_fill(~nucleus(scaled_NV.detach(), tokens_N, top_p), float("-inf"))
    return scaled_NV.gather(-1, tokens_N[:, None])[:, 0] - scaled_NV.logsumexp(-1)


def nucleus(scaled_NV: Tensor, tokens_N: Tensor, top_p: float) -> Tensor:
    """Which tokens stay: bool [N, V]. A token goes if those above it already have the mass `top_p`.

    Summed from the smallest up, as vLLM does (`apply_top_k_top_p`), so that rounding falls alike.
    """
    values_NV, order_NV = scaled_NV.sort(dim=-1)
    goes_NV = values_NV.softmax(-1).cumsum(-1) <= 1 - top_p
    goes_NV[:, -1] = False
    stays_NV = torch.ones_like(goes_NV).scatter(-1, order_NV, ~goes_NV)
    return stays_NV.scatter(-1, tokens_N[:, None], True)
