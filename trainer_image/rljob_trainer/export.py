"""The trained model as a Hugging Face directory, at the end of a job. Called by the ranks, all together."""

from __future__ import annotations

import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from rljob_trainer.backend.protocol import Backend
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import remove_tree, storage_errors, sync_directory, write_durably
from rljob_trainer.distributed import Ranks

STEP_FILE = "rljob_step.txt"
"""Inside an export: the step whose weights it holds."""
DRAFT = re.compile(r"export\.tmp-(\d+)")


def export(ranks: Ranks, backend: Backend, storage: Storage, step: int) -> None:
    """Write `export/`, whole or not at all; one of the same step is left as it is.

    Raises `StorageError` if the volume is full or failing, and `FencedError` if a newer attempt has taken it.
    """
    if ranks.from_leader(lambda: exported_step(storage.export) == step):
        return
    draft = storage.export.with_name(f"export.tmp-{storage.mine.attempt}")
    ranks.from_leader(lambda: _prepare(storage))
    try:
        with _told(storage):
            backend.save_hf_model(draft)
        ranks.from_leader(lambda: _publish(draft, storage, step))
    finally:
        if ranks.leads:
            shutil.rmtree(draft, ignore_errors=True)  # of one that failed: the room is needed


def exported_step(directory: Path) -> int | None:
    """The step of a whole export, if there is one."""
    path = directory / STEP_FILE
    return int(path.read_text()) if path.exists() else None


def _prepare(storage: Storage) -> None:
    """Remove what attempts up to this one have left half written."""
    with _told(storage):
        storage.check_fence()
        for path in storage.root.iterdir():
            if (draft := DRAFT.fullmatch(path.name)) and int(draft[1]) <= storage.mine.attempt:
                shutil.rmtree(path)


def _publish(draft: Path, storage: Storage, step: int) -> None:
    with _told(storage):
        storage.check_fence()
        write_durably(draft / STEP_FILE, f"{step}\n")
        if storage.export.exists():
            remove_tree(storage.export, storage.trash)
        draft.rename(storage.export)
        sync_directory(storage.root)


def _told(storage: Storage) -> AbstractContextManager[None]:
    return storage_errors(storage.root, "Exporting the model")
