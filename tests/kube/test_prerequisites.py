"""What is said where a real cluster cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kube import packages, prerequisites
from kube.fixtures import skipped_if_unavailable
from kube.programs import Unavailable


def test_without_the_means_a_test_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Go"), skipped_if_unavailable():
        raise Unavailable("no Go")


def test_but_continuous_integration_must_not_skip_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Go"), skipped_if_unavailable():
        raise Unavailable("no Go")


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root"):
        prerequisites.check()


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"containerd .* runc .* -m kube.packages"):
        prerequisites.check()
    with pytest.raises(Unavailable, match="on Debian: apt-get install"):
        packages.install()
