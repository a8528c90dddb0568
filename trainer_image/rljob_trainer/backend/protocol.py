"""The one interface that the loop knows of a training backend.

Every method is collective: all training ranks call it, in the same order. Batches are global (the same on every
rank); a backend takes the slice of its data-parallel rank and cuts it into micro-batches itself. So nothing outside a
backend knows how a model is spread, and a loss can be computed on the last pipeline stage alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from rljob_api.manifest import FileEntry, Layout
from rljob_trainer.batch import Batch

LossFunction = Callable[[Tensor, Batch], tuple[Tensor, dict[str, Tensor]]]
"""`loss(logprobs_bT, micro_batch)` → (scalar to minimise, metrics). Both are sums over the micro-batch, already divided
by what the whole global batch is to be averaged over: a backend adds them up over micro-batches and data-parallel
ranks and never divides. `logprobs_bT` carries the gradient and is aligned like `Batch`."""


Poll = Callable[[], None]
"""Told between micro-batches. It may be collective and may raise `Interrupted`, so all ranks call it equally often:
before the first micro-batch at least, and between micro-batches where all ranks stand at the same one. Pipeline stages
never do, and a stage that left the schedule would leave its neighbours waiting: there it is called at the ends only."""


def no_poll() -> None:
    """For who cannot be told to go."""


Written = Callable[[], list[FileEntry]]
"""All ranks call it to wait for a save; it tells the checksums of files that this rank wrote and flushed, by their
paths in the directory. A file that no rank tells of is read again to be hashed."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer update came to; the same on every rank."""

    metrics: dict[str, float]
    """Sums over the global batch of what the loss function reported, and `loss`."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float


class NonFiniteGradientError(RuntimeError):
    """A gradient is NaN or infinite; weights and optimizer are as before the step."""


class Interrupted(Exception):  # noqa: N818 - not an error: the ranks agreed to stop in the middle of a step
    """All ranks agreed to stop; the step in hand is abandoned, weights and optimizer are as before it."""


class Backend(Protocol):
    """A model, its optimizer and its random state, spread over the training ranks."""

    layout: Layout

    def logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        """Log-probabilities of the batch under the current weights, no gradient: float32 [B, T] on every rank (CPU)."""
        ...

    def reference_logprobs(self, batch: Batch, poll: Poll = no_poll) -> Tensor:
        """The same under the frozen starting model; only when the backend was built with one."""
        ...

    def train_step(self, batch: Batch, loss: LossFunction, poll: Poll) -> StepResult:
        """One optimizer update; `poll` is called once more before it, after the last micro-batch.

        Raises `NonFiniteGradientError` on all ranks if any gradient is NaN or infinite and that is checked.
        """
        ...

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and whole tensors (in the training dtype of vLLM), in the same order every time.

        Every rank must exhaust it; the tensors are meaningful on rank 0.
        """
        ...

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        """Write model, optimizer, scheduler and `rng` (as from `rng_state`) of all ranks into `directory`, in parallel.

        `directory` exists and is empty. Returns what waits until everything is on disk; with `background` the writing
        goes on while training does, else it is done on return.
        """
        ...

    def load_checkpoint(self, directory: Path, *, optimizer: bool, rng: bool) -> None:
        """Load what `save_checkpoint` wrote, also under another layout (then without `rng`)."""
        ...

    def save_hf_model(self, directory: Path) -> None:
        """Write a Hugging Face directory (safetensors, config, tokenizer) that transformers and vLLM load."""
        ...

    def rng_state(self) -> object:
        """This rank's random state now, to be kept for `save_checkpoint` or put back by `set_rng_state`."""
        ...

    def set_rng_state(self, state: object) -> None: ...
