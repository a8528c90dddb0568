"""An API server that does what a test tells it, and the way there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl.fake_api_server import FakeApiServer, served


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
def kubeconfig(api: FakeApiServer, tmp_path: Path) -> Iterator[Path]:
    with served(api, tmp_path) as path:
        yield path
