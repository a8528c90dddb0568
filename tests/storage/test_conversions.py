"""A conversion is found although its volume takes nothing more: what was found of the model is only not noted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rljob_trainer.convert.identity import identity_of
from storage.test_full_volume import with_bytes
from storage.volumes import Volume
from trainer import tiny
from trainer.converting import SIZES, Step, conversion_run, ended


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make_model(tmp_path / "model", "qwen3", **SIZES)


def test_on_a_full_volume(tmp_path: Path, model: Path, small: Volume) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    (tmp_path / "cache").symlink_to(small.path / "cache")
    (small.path / "cache").mkdir()
    first, second = (
        Step(tmp_path, conversion_run(tmp_path, source), name=source.name) for source in (model, copy)
    )
    with ended(first, second):
        assert first.start().end() == 0, first.said()
        with_bytes(small.path, small, 0)
        assert second.start().end() == 0, second.said()
    assert "Noting what the model's files hold failed: " in second.said()
    assert "Traceback" not in second.said()


def test_in_a_folder_that_cannot_be_written(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that is shared read-only. The kernel's own refuses everybody."""
    spec = conversion_run(tmp_path, model).spec
    known = identity_of(spec.model, model, tmp_path / "digests")
    assert identity_of(spec.model, model, Path("/sys/digests")) == known
    assert "Noting what the model's files hold failed: " in caplog.text
