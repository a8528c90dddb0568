"""Ranks of Megatron on a volume that becomes full at any moment of a save: none is left waiting for another."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist

from requirements.gangs import a_gang, lose_patience, said
from requirements.interrupted import build
from rljob_api.run import Run
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.distributed import Ranks
from storage.test_full_volume import BALLAST, with_bytes
from storage.volumes import Volume
from trainer.checkpoints import VERSIONS
from trainer.test_megatron import make_model

ROOMS = [0, 1, 2, 4, 8, 16, 32, 64]
"""In pages; a save needs some more."""
LONG = timedelta(seconds=200)


def save_with_less_and_less_in_the_way(run: Run, ranks: Ranks, *, model: Path, background: bool) -> str:
    """How often a save failed for want of room, on this rank; then one succeeds."""
    storage = ranks.from_leader(lambda: open_storage(run))
    backend = build(run.spec, model)
    lose_patience(LONG)
    saver = Saver(run, storage, backend, VERSIONS, None)

    def save(step: int) -> None:
        if background:
            saver.begin(LoopState(step=step), backend.rng_state())
            saver.finish()
        else:
            saver.save(LoopState(step=step), backend.rng_state())

    for step, room in enumerate(ROOMS, start=1):
        ranks.from_leader(partial(with_bytes, storage.root, Volume(storage.root), room))
        with pytest.raises(StorageError, match="is full"):
            save(step)
        dist.barrier()
    ranks.from_leader((storage.root / BALLAST).unlink)
    save(len(ROOMS) + 1)
    return " ".join(sorted(path.name for path in (storage.root / "checkpoints").iterdir()))


@pytest.mark.parametrize("background", [False, True])
def test_all_ranks_hear_of_it_and_save_once_there_is_room(
    tmp_path: Path, small: Volume, background: bool
) -> None:
    model = make_model(tmp_path / "model", "qwen3", tied=True)
    run = a_gang(small.path, 2, backend="megatron", parallelism={"tensor": 2})
    act = partial(save_with_less_and_less_in_the_way, model=model, background=background)
    last = f"step_{len(ROOMS) + 1}"
    assert said(run, range(2), act, LONG) == {0: last, 1: last}
