"""Volumes for tests of what storage does to a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kube.fixtures import skipped_if_unavailable
from storage.volumes import FailingVolume, Volume, check_namespaces, failing_volume, small_volume

MIB = 1 << 20


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[FailingVolume]:
    """A volume that fails as it is told."""
    with skipped_if_unavailable(), failing_volume(tmp_path) as volume:
        yield volume


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Volume]:
    """A volume of 4 MiB and 200 files."""
    with skipped_if_unavailable():
        check_namespaces()
    with small_volume(tmp_path, 4 * MIB, files=200) as volume:
        yield volume
