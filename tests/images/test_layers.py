"""What a change costs: of our code a small layer, and of what is unchanged nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from . import buildah
from .build import OPERATOR, REPOSITORY, build
from .seed import Seed, clone


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of all that the operator's image is made of."""
    for name in [".dockerignore", "LICENSE", "README.md", "pyproject.toml"]:
        shutil.copy(REPOSITORY / name, tmp_path)
    for name in ["crds", "operator", "requirements"]:
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    return tmp_path


def test_files_that_are_younger_and_not_different_change_nothing(images: Seed, repository: Path) -> None:
    before = build(OPERATOR, repository)
    for file in repository.rglob("*"):
        file.touch()
    assert build(OPERATOR, repository) == before


def test_a_change_of_our_code_changes_only_the_last_two_layers(images: Seed, repository: Path) -> None:
    before = buildah.layers(build(OPERATOR, repository))
    with (repository / "operator" / "rljob_operator" / "names.py").open("a") as code:
        code.write("# changed\n")
    after = buildah.layers(build(OPERATOR, repository))
    assert before[:-2] == after[:-2]
    assert before[-2:] != after[-2:]


def test_a_clone_shares_files_with_its_source_but_for_databases(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "clone"
    store = source / "io.containerd.metadata.v1.bolt"
    (store / "snapshots").mkdir(parents=True)
    (store / "meta.db").write_text("before")
    (store / "snapshots" / "file").touch()
    clone(source, copy)
    (copy / store.name / "meta.db").write_text("after")
    assert (store / "meta.db").read_text() == "before"
    assert (store / "snapshots" / "file").samefile(copy / store.name / "snapshots" / "file")
