"""Run micro-batches through Megatron's schedule and turn logits into log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
from megatron.core.utils import get_attr_wrapped_model
from torch import Tensor, nn

from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.parallel import Place
from rljob_trainer.backend.megatron.sequence import gathered, positions_of, widened
from rljob_trainer.backend.protocol import LossFunction, Poll
from rljob_trainer.backend.shares import blank, filled
from rljob_trainer.batch import Batch

Metrics = dict[str, Tensor]


def target_logprobs(
    logits_btV: Tensor, targets_bt: Tensor, temperature: float, vocab: int, first: int
) -> Tensor:
    """Log-probability of each target: float32 [b, t].

    `logits_btV` holds this tensor rank's columns, from column `first` of the vocabulary. Columns beyond
    `vocab` only fill it up and must not take part: left at logit 0 they shift log-probabilities by 1e-3.
    """
    logits_btV = logits_btV.float() / temperature
    fill = first + logits_btV.shape[-1] - vocab
    if fill > 0:
        column = torch.arange(logits_btV.shape[-1], device=logits_btV.device)
        logits_btV = logits_btV.masked_fill(column + first >= vocab, -torch.inf)
    # It overwrites its input, which is ours: `logits_btV` is a new tensor since the division.
    logprobs_bt: Tensor = -vocab_parallel_cross_entropy(logits_btV, targets_bt.contiguous())
    return logprobs_bt


class Runner:
    """One model's forward and backward passes. `vocab` is the real vocabulary, without the fill."""

    def __init__(self, chunks: Sequence[nn.Module], place: Place, vocab: int, temperature: float) -> None:
        self.chunks, self.place, self.vocab, self.temperature = list(chunks), place, vocab, temperature

    @torch.no_grad()
    def logprobs(self, micro_batches: list[Batch], poll: Poll) -> list[Tensor]:
        """Per micro-batch [b, T] on the last stage, an empty list elsewhere. `poll` as in `accumulate`."""

        def step(data: Iterator[Batch], model: nn.Module) -> tuple[Tensor, None]:
            if self.place.stages == 1:
                poll()
            micro = next(data)
            return self._output(micro, model), None

        for chunk in self.chunks:
            chunk.eval()
        outputs: list[Tensor] = self._schedule(step, micro_batches, forward_only=True)
        shapes = [micro.tokens_BT.shape for micro in micro_batches]
        return [output[:b, :T] for output, (b, T) in zip(outputs, shapes, strict=False)]

    def accumulate(self, micro_batches: list[Batch], loss: LossFunction, poll: Poll) -> list[Metrics]:
        """Add up the gradients of all micro-batches; returns metrics and `loss` of each, on the last stage.

        `poll` is called before each micro-batch, unless there are stages: then ranks are never at the same
        micro-batch at the same time, and one that left the schedule would leave its neighbours waiting.
        """

        def step(data: Iterator[Batch], model: nn.Module) -> tuple[Tensor, object]:
            if self.place.stages == 1:
                poll()
            micro = next(data)

            def finish(logprobs_bT: Tensor) -> tuple[Tensor, Tensor, Metrics]:
                value, metrics = loss(logprobs_bT, micro)
                # The second is what Megatron would divide by: see `sum_gradients`.
                return value, torch.zeros((), dtype=torch.int), {**metrics, "loss": value.detach().clone()}

            return self._output(micro, model), finish

        for chunk in self.chunks:
            chunk.train()
        metrics: list[Metrics] = self._schedule(step, micro_batches, forward_only=False)
        return metrics

    def _output(self, micro: Batch, model: nn.Module) -> Tensor:
        """Log-probabilities on the last stage, aligned like `Batch`: float32 [b, T]; hidden states elsewhere."""
        tokens_bW = widened(micro.tokens_BT, self.place)
        W, device = tokens_bW.shape[1], tokens_bW.device
        own_t = positions_of(self.place.context, self.place.contexts, W).to(device)
        # Padding stands on the right, so the causal mask hides it from every real token.
        hidden_11tW = (torch.arange(W, device=device) > own_t[:, None])[None, None]
        tokens_bt = tokens_bW[:, own_t]
        output: Tensor = model(tokens_bt, own_t.expand_as(tokens_bt), hidden_11tW)
        if not get_attr_wrapped_model(model, "post_process"):
            return output
        targets_bt = tokens_bW.roll(-1, dims=1)[:, own_t]
        first = self.place.tensor * output.shape[-1]
        logprobs_bt = target_logprobs(output, targets_bt, self.temperature, self.vocab, first)
        logprobs_bW = gathered(logprobs_bt.T.contiguous(), self.place.contexts, same_use=True).T
        logprobs_bT = nn.functional.pad(logprobs_bW[:, : micro.tokens_BT.shape[1] - 1], (1, 0))
        return logprobs_bT * micro.mask_BT

    def _schedule(
        self, step: Callable[..., object], micro_batches: list[Batch], *, forward_only: bool
    ) -> list[Any]:
        if self.place.chunks > 1:
            micro_batches = alike(micro_batches, self.place)
        rows, width = widened(micro_batches[0].tokens_BT, self.place).shape
        with cpu.stand_in():
            result: list[Any] = get_forward_backward_func()(
                forward_step_func=step,
                data_iterator=[iter(micro_batches) for _ in self.chunks],
                model=self.chunks,
                num_microbatches=len(micro_batches),
                # Stages without chunks tell one another the real shapes; these two are not used then.
                seq_length=width,
                micro_batch_size=rows,
                forward_only=forward_only,
            )
        return result


def alike(micro_batches: list[Batch], place: Place) -> list[Batch]:
    """The same with padding, and with more of it, in one shape and a multiple of the stages in number.

    Chunks take turns with as many micro-batches at a time as there are stages, and do not tell one another shapes.
    """
    missing = -len(micro_batches) % place.stages
    several = [*micro_batches, *[blank(micro_batches[0])] * missing]
    rows, width = (max(micro.tokens_BT.shape[axis] for micro in several) for axis in (0, 1))
    return [filled(micro, rows, width) for micro in several]
