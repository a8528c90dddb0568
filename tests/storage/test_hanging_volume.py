"""A volume that answers nothing while ranks of Megatron save: it is told who waits for it, and where."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rljob_api.progress import TrainPhase
from storage.effects import Deed, Fault
from storage.volumes import FailingVolume
from trainer.hangs import saves_within_megatron
from trainer.test_stall import hung_on_megatron


def leave(_: Path) -> None:
    """The volume itself keeps the file from being written."""


def test_a_rank_that_is_stuck_in_the_kernel_is_named_with_the_line_where_it_writes(
    tmp_path: Path, failing: FailingVolume
) -> None:
    toy = partial(saves_within_megatron, block=leave)
    with failing.failing(Fault(deeds=(Deed.WRITE,), path="*/__1_0.distcp", held=True)):
        words = hung_on_megatron(
            toy, tmp_path, TrainPhase.SAVE, parallelism={"tensor": 2}, volume=failing.path
        )
    assert words.hang is not None
    assert words.rank == 1
    assert "(checkpoint/shards.py:" in words.message
    assert "in write_data" in (failing.path / words.hang.folder / "rank-1.txt").read_text()
