"""Chooses the backend that `spec` names (R5). Called by every rank; only the chosen one is imported."""

from __future__ import annotations

from pathlib import Path

from rljob_api.parallelism import BackendName
from rljob_api.run import Run

from rljob_trainer.backend.protocol import Backend


def build_backend(run: Run, model: Path, *, reference: bool) -> Backend:
    """The model of `model` (a Hugging Face directory) with its optimizer, spread over the ranks. Collective."""
    match run.spec.chosen_backend:
        case BackendName.DTENSOR:
            from rljob_trainer.backend.dtensor.backend import DtensorBackend

            return DtensorBackend(run.spec, model, reference=reference)
        case BackendName.MEGATRON:
            from rljob_trainer.backend.megatron.backend import MegatronBackend

            return MegatronBackend(run.spec, model)
