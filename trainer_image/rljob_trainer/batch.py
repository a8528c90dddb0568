"""What flows through a step: prompts → samples → one batch of tensors. Shapes ride in names: B samples, T tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """One question, ready to be asked."""

    index: int
    """Position in the dataset; stable over restarts."""
    text: str
    """What the model reads, chat template applied."""
    token_ids: list[int]
    answer: str
    item: dict[str, Any] = field(default_factory=dict)
    """The row it came from, for scorers."""


@dataclass(frozen=True)
class Sample:
    """One completion of one prompt."""

    prompt: Prompt
    number: int
    """Which of the prompt's completions, from 0."""
    token_ids: list[int]
    """Generated tokens, the end-of-sequence token included when it was drawn."""
    logprobs: list[float]
    """Log-probability of each generated token under the sampling distribution, as vLLM saw it."""
    text: str
    finish_reason: str
    weight_version: int
    """Optimizer updates of the policy that drew it."""


@dataclass(frozen=True)
class Batch:
    """All samples of a step, the same on every rank. Padded on the right.

    `logprobs_BT[b, t]` is the log-probability of `tokens_BT[b, t]` given `tokens_BT[b, :t]`; where `mask_BT` is 0
    (prompt and padding) its value is 0.
    """

    tokens_BT: Tensor
    """int64; prompt, completion, padding."""
    lengths_B: Tensor
    """int64; tokens of each row that are not padding."""
    mask_BT: Tensor
    """float32; 1 where the token was generated."""
    rollout_logprobs_BT: Tensor
    """float32; what vLLM reported."""
    advantages_B: Tensor
    """float32."""
    old_logprobs_BT: Tensor | None = None
    """float32; the trainer's own, before the update."""
    reference_logprobs_BT: Tensor | None = None
    """float32; the frozen starting model's, only when there is a KL penalty."""

    @property
    def size(self) -> int:
        return self.tokens_BT.shape[0]

    @property
    def token_count(self) -> Tensor:
        """Generated tokens of the whole batch: what a token-level loss divides by."""
        return self.mask_BT.sum()

    def rows(self, index: Tensor) -> Batch:
        """The rows at `index`, cut to their longest."""
        width = int(self.lengths_B[index].max())

        def cut(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[index, :width]

        return Batch(
            tokens_BT=self.tokens_BT[index, :width],
            lengths_B=self.lengths_B[index],
            mask_BT=self.mask_BT[index, :width],
            rollout_logprobs_BT=self.rollout_logprobs_BT[index, :width],
            advantages_B=self.advantages_B[index],
            old_logprobs_BT=cut(self.old_logprobs_BT),
            reference_logprobs_BT=cut(self.reference_logprobs_BT),
        )


def collate(samples: list[Sample], advantages: list[float], pad_id: int) -> Batch:
    """Put samples of unequal length into one batch."""
    rows = [sample.prompt.token_ids + sample.token_ids for sample in samples]
    lengths = torch.tensor([len(row) for row in rows])
    B, T = len(rows), int(lengths.max())
    tokens_BT = torch.full((B, T), pad_id, dtype=torch.int64)
    mask_BT = torch.zeros(B, T)
    logprobs_BT = torch.zeros(B, T)
    for b, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        first = len(sample.prompt.token_ids)
        tokens_BT[b, : len(row)] = torch.tensor(row)
        mask_BT[b, first : len(row)] = 1
        logprobs_BT[b, first : len(row)] = torch.tensor(sample.logprobs)
    return Batch(tokens_BT, lengths, mask_BT, logprobs_BT, torch.tensor(advantages, dtype=torch.float32))
