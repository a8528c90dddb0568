"""What all tests may ask for, and which of them one process must run when `make test` has several."""

from __future__ import annotations

import pytest

from kube.fixtures import api_server

__all__ = ["api_server"]

ON_CLUSTERS = {"e2e_cluster", "images", "kube", "kubectl"}
"""Folders that share clusters and images: two at once would be one too many for a small machine."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays together, for the sake of what it starts once."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group("clusters" if folder in ON_CLUSTERS else str(item.path)))
