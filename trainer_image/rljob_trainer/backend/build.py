"""Chooses the backend of a job. Called by the trainer once the ranks have joined."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from rljob_api.parallelism import BackendName
from rljob_api.run import Run
from rljob_trainer.backend.protocol import Backend


def build_backend(run: Run, model: Path, *, reference: bool) -> Backend:
    """Spread the Hugging Face directory `model` over the ranks. Collective; a backend is imported only when chosen.

    `reference` keeps a frozen copy for `reference_logprobs`. Raises `Mistake` for a model that cannot be trained so.
    """
    match run.spec.chosen_backend:
        case BackendName.DTENSOR:
            from rljob_trainer.backend.dtensor.backend import DtensorBackend

            return DtensorBackend(run.spec, model, reference=reference)
        case BackendName.MEGATRON:
            from rljob_trainer.backend.megatron.backend import MegatronBackend
            from rljob_trainer.convert.once import find_converted

            return MegatronBackend(run.spec, model, find_converted(run, model), reference=reference)
        case _:
            assert_never(run.spec.chosen_backend)
