"""The trained model as a Hugging Face directory, at the end of a job. Called by the ranks, all together."""

from __future__ import annotations

import shutil
from pathlib import Path

from rljob_trainer.backend.protocol import Backend
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import storage_errors, sync_directory
from rljob_trainer.distributed import Ranks

STEP_FILE = "rljob_step.txt"
"""Inside an export: the step whose weights it holds."""


def export(ranks: Ranks, backend: Backend, storage: Storage, step: int) -> None:
    """Write `export/`, whole or not at all; one of the same step is left as it is."""
    if ranks.from_leader(lambda: exported_step(storage.export) == step):
        return
    draft = storage.export.with_name("export.tmp")
    ranks.from_leader(lambda: shutil.rmtree(draft, ignore_errors=True))
    with storage_errors(storage.root, "Exporting the model"):
        backend.save_hf_model(draft)
    ranks.from_leader(lambda: _publish(draft, storage, step))


def exported_step(directory: Path) -> int | None:
    """The step of a whole export, if there is one."""
    path = directory / STEP_FILE
    return int(path.read_text()) if path.exists() else None


def _publish(draft: Path, storage: Storage, step: int) -> None:
    storage.check_fence()
    (draft / STEP_FILE).write_text(f"{step}\n")
    if storage.export.exists():
        shutil.rmtree(storage.export)
    draft.rename(storage.export)
    sync_directory(storage.root)
