"""Shards that are hashed on their way to the disk."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load

from rljob_api.base import Manifest
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint import files
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.save import Saved
from rljob_trainer.checkpoint.shards import BESIDE, FLUSH, write_shards
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import sha256_of, verify
from trainer.checkpoints import FileBackend, a_run, a_saver, alone, in_child


def a_state() -> Manifest:
    """Tensors below and above each of the writer's sizes, and a value that is none."""
    torch.manual_seed(0)
    sizes = {"none": 0, "small": 3, "beside": BESIDE // 4, "large": FLUSH // 3}
    return {"model": {name: torch.randn(size) for name, size in sizes.items()}, "updates": 7}


class ShardBackend(FileBackend):
    """Saves `a_state` by torch, and lets a test do something to the file behind the writer's back."""

    def __init__(self, then: Callable[[Path], object] = lambda _: None) -> None:
        super().__init__()
        self.then = then
        self.group = dist.new_group(backend="gloo")

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        written = write_shards(a_state(), directory, DefaultSavePlanner(), self.group, background=background)
        written()
        self.then(directory / "__0_0.distcp")
        return written


def saved(root: Path, then: Callable[[Path], object] = lambda _: None) -> Saved:
    alone()
    run = a_run(root)
    return a_saver(run, ShardBackend(then), open_storage(run)).save(LoopState(step=1), rng=0)


def test_the_manifest_has_the_checksums_of_the_files(tmp_path: Path) -> None:
    path = saved(tmp_path).path
    assert verify(path) == []


def test_nothing_that_was_hashed_while_it_was_written_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noting(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(files, "sha256_of", noting)
    manifest = saved(tmp_path).manifest
    assert sorted(read) == ["loop.json", "spec.json"]
    assert [file.path for file in manifest.files] == [
        "loop.json",
        "spec.json",
        "state/.metadata",
        "state/__0_0.distcp",
    ]


def test_torchs_own_reader_gets_every_bit_back(tmp_path: Path) -> None:
    path = saved(tmp_path).path
    there = a_state()
    read: Manifest = {
        "model": {name: torch.zeros_like(tensor) for name, tensor in there["model"].items()},
        "updates": 0,
    }
    load(read, checkpoint_id=path / "state")
    assert read["updates"] == 7
    assert all(torch.equal(read["model"][name], tensor) for name, tensor in there["model"].items())


def test_a_shard_that_was_torn_before_the_save_was_over_fails_it(tmp_path: Path) -> None:
    def tear(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(StorageError, match=r"were written to state/__0_0\.distcp, and the volume holds"):
        saved(tmp_path, tear)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_bit_that_flipped_on_the_disk_is_found(tmp_path: Path) -> None:
    """What was meant to be written is what counts: a checksum of what was read back would match."""

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    path = saved(tmp_path, flip).path
    assert verify(path) == ["state/__0_0.distcp does not match its checksum"]


def test_a_disk_that_fills_up_in_the_middle_of_a_tensor_is_a_sentence(tmp_path: Path) -> None:
    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BESIDE, 2 * BESIDE))
        try:
            saved(tmp_path / "volume")
        except Exception as error:
            (tmp_path / "error").write_text(f"{type(error).__name__}: {error}")

    assert in_child(fill) == 0
    told = (tmp_path / "error").read_text()
    assert told.startswith(
        f"StorageError: Saving a checkpoint failed: the volume at {tmp_path}/volume is full"
    )
    assert list((tmp_path / "volume" / "checkpoints").iterdir()) == []
