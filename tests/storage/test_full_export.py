"""An export that finds no room says what it needs and what is free, and leaves nothing where a whole one belongs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from e2e.volume import Volume as Left
from e2e.volume import differences
from kube.fixtures import skipped_if_unavailable
from rljob_api.parallelism import BackendName
from rljob_api.progress import EXIT_VOLUME_UNUSABLE, Ending
from rljob_cli.checkpoint import app
from rljob_cli.errors import UserMistake
from storage.conftest import MIB
from storage.test_full_volume import PAGE, Fill, empty, with_bytes, with_files
from storage.volumes import Volume, check_namespaces, small_volume
from trainer.answering import a_model
from trainer.checkpoints import a_run, save_model
from trainer.resuming import a_job, trained

MISSING = r"The exported model needs 0\.\d MB in {root}, where \d+\.\d MB are free"
NEXT = "Free some space, enlarge the volume, or write to another one"


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """Of 16 MiB, enough for a small job."""
    with skipped_if_unavailable():
        check_namespaces()
    with small_volume(tmp_path, 16 * MIB) as volume:
        (volume.path / "ballast").mkdir()
        yield volume


def test_a_job_that_finds_no_room_to_begin_or_for_its_export_says_so_and_a_later_attempt_writes_it(
    tmp_path: Path, volume: Volume
) -> None:
    a_model(volume.path / "model")
    job, ballast = volume.path / "job", volume.path / "ballast"
    assert trained(a_job(job, BackendName.DTENSOR)).ending is Ending.COMPLETE
    storage = job / "storage"
    shutil.copytree(storage, tmp_path / "before")
    shutil.rmtree(storage / "export")
    with_bytes(ballast, volume, 0)
    told = trained(a_job(job, BackendName.DTENSOR, attempt=2))
    assert (told.ending, told.code) == (Ending.VOLUME_UNUSABLE, EXIT_VOLUME_UNUSABLE)
    assert told.message.startswith(f"Opening the job's directory failed: the volume at {storage} is full")
    with_bytes(ballast, volume, 200_000 // PAGE)
    told = trained(a_job(job, BackendName.DTENSOR, attempt=3))
    assert (told.ending, told.code) == (Ending.VOLUME_UNUSABLE, EXIT_VOLUME_UNUSABLE)
    assert_no_room(told.message, storage)
    assert told.stderr == f"{told.message}\n", "and no traceback"
    assert not list(storage.glob("export*"))
    empty(ballast)
    assert trained(a_job(job, BackendName.DTENSOR, attempt=4)).ending is Ending.COMPLETE
    assert differences(Left(storage), Left(tmp_path / "before")) == []


@pytest.mark.parametrize(("fill", "least"), [(with_bytes, 100), (with_files, 0)])
def test_full_at_any_moment_the_command_says_so_and_leaves_nothing(
    tmp_path: Path, volume: Volume, fill: Fill, least: int
) -> None:
    a_checkpoint(tmp_path)
    target, ballast = volume.path / "exported", volume.path / "ballast"
    told: list[str] = []
    for room in range(least, 200):
        fill(ballast, volume, room)
        result = CliRunner().invoke(app, ["export", str(tmp_path / "saved"), "--to", str(target)])
        empty(ballast)
        if result.exit_code == 0:
            break
        assert isinstance(result.exception, UserMistake), result.exception
        told.append(str(result.exception))
        assert [path.name for path in volume.path.iterdir()] == ["ballast"], "nothing is left"
    assert AutoModelForCausalLM.from_pretrained(target).config.hidden_size == 64
    assert len(told) > 3, "so many moments"
    for each in told:
        assert_no_room(each, volume.path)


def assert_no_room(told: str, root: Path) -> None:
    """It names the path, what is needed and free, and the next step."""
    assert re.match(MISSING.format(root=re.escape(str(root))), told), told
    assert NEXT in told


def a_checkpoint(folder: Path) -> None:
    a_model(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    save_model(a_run(folder / "saved"), model, folder / "model")
