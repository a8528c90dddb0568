"""Where the real API server comes from, and what is said when it cannot be had."""

from __future__ import annotations

import fcntl
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
    assert programs.programs("etcd")["etcd"] == Path("/assets/etcd")


def test_without_go_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no Go here"):
        programs.programs("etcd")


def test_nothing_is_built_on_a_nearly_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/go")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3e9))
    with pytest.raises(Unavailable, match=r"3 GB free in .* needs 30"):
        programs.programs("etcd")


def test_what_was_built_before_needs_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAMS["kubectl"]
    built = tmp_path / "rljob" / "bin" / program.version_hash / program.name
    built.parent.mkdir(parents=True)
    built.touch()
    monkeypatch.setenv("PATH", "")
    assert programs.programs("kubectl") == {"kubectl": built}


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that writes its last argument but one, which is the output, and something to where it keeps what it made."""
    go = tmp_path / "go"
    go.write_text(
        '#!/bin/sh\nmkdir -p "$GOCACHE"; touch "$GOCACHE/made"\nwhile [ $# -gt 2 ]; do shift; done; touch $1\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e12))


@pytest.mark.usefixtures("go")
def test_only_what_is_asked_for_is_built(tmp_path: Path) -> None:
    programs.programs("helm", "kwok")
    assert {path.name for path in (tmp_path / "rljob" / "bin").rglob("*") if path.is_file()} == {
        "helm",
        "helm.lock",
        "kwok",
        "kwok.lock",
    }


@pytest.mark.usefixtures("go")
def test_what_go_compiled_lies_beside_and_goes_at_the_end(tmp_path: Path) -> None:
    programs.programs("helm")
    compiled = tmp_path / "rljob" / "compiled"
    assert (compiled / "made").exists()
    programs.forget_compiled()
    assert not compiled.exists()
    assert programs.programs("helm")["helm"].exists()


@pytest.mark.usefixtures("go")
def test_what_go_compiled_stays_while_somebody_builds(tmp_path: Path) -> None:
    programs.programs("helm")
    with (tmp_path / "rljob" / "compiled.lock").open("w") as builder:
        fcntl.flock(builder, fcntl.LOCK_SH)
        programs.forget_compiled()
    assert (tmp_path / "rljob" / "compiled" / "made").exists()
