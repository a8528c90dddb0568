"""Damage is found, named, passed over, and never half-loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.verify import seal, verify
from trainer.checkpoints import VERSIONS, a_run, layout, save

FILES = ["state/rank_0.bin", "loop.json", "spec.json", "manifest.json", "manifest.json.sha256"]


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
@pytest.mark.parametrize("file", FILES)
def test_any_damage_to_any_file_is_found_and_the_one_before_is_taken(
    tmp_path: Path, damage: Callable[[Path], None], file: str
) -> None:
    first, second = save(a_run(tmp_path), 1, 2)
    damage(second.path / file)
    assert len(verify(second.path)) == 1
    run = a_run(tmp_path, 2)
    again = plan_resume(open_storage(run), run, layout(), VERSIONS)
    assert again.directory == first.path
    assert again.skipped[0].startswith("The checkpoint of step 2 was passed over: ")
    assert not second.path.exists(), "it is in quarantine"
    assert [path.name.split(".")[0] for path in (tmp_path / "quarantine").iterdir()] == ["step_2"]


def test_a_step_under_another_name_is_not_taken(tmp_path: Path) -> None:
    (saved,) = save(a_run(tmp_path), 1)
    shutil.move(saved.path, saved.path.with_name("step_9"))
    assert verify(saved.path.with_name("step_9")) == ["the manifest says step 1, the directory step_9"]


def test_a_checkpoint_of_another_job_among_ours_is_not_taken(tmp_path: Path) -> None:
    (theirs,) = save(a_run(tmp_path / "theirs", uid="uid-of-theirs"), 9)
    (ours,) = save(a_run(tmp_path / "ours"), 1)
    shutil.copytree(theirs.path, ours.path.with_name("step_9"))
    run = a_run(tmp_path / "ours", 2)
    again = plan_resume(open_storage(run), run, layout(), VERSIONS)
    assert again.step == 1
    assert "belongs to another job, 'demo' with UID uid-of-theirs" in again.skipped[0]


def test_a_manifest_from_the_future_is_not_guessed_at(tmp_path: Path) -> None:
    (saved,) = save(a_run(tmp_path), 1)
    manifest = json.loads((saved.path / "manifest.json").read_text()) | {"format": 99}
    (saved.path / "manifest.json").write_text(json.dumps(manifest))
    (saved.path / "manifest.json.sha256").write_text(seal(json.dumps(manifest)))
    assert "format 99" in verify(saved.path)[0]
