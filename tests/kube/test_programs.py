"""Where the real API server comes from, and what is said when it cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from kube import programs
from kube.programs import PROGRAMS, Unavailable


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def test_the_programs_that_the_user_has_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "/assets")
    assert programs.programs()["etcd"] == Path("/assets/etcd")


def test_without_go_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no Go here"):
        programs.programs()


def test_nothing_is_built_on_a_nearly_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/go")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3e9))
    with pytest.raises(Unavailable, match=r"3 GB free in .* needs 30"):
        programs.programs()


def test_what_was_built_before_needs_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in PROGRAMS:
        built = tmp_path / "rljob" / "bin" / program.version_hash / program.name
        built.parent.mkdir(parents=True)
        built.touch()
    monkeypatch.setenv("PATH", "")
    assert {path.name for path in programs.programs().values()} == {"etcd", "kube-apiserver"}
