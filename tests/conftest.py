"""What all tests may ask for, and which of them stay together when `make test` runs them in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kube.fixtures import api_server

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

__all__ = ["api_server"]

ON_CLUSTERS = ("e2e_cluster", "images", "kube", "kubectl")
"""Folders that share clusters and images: two at once would be one too many for a small machine."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """A file stays together, for the sake of what it starts once; so do all tests on clusters."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            on_clusters = path.startswith(tuple(f"tests/{folder}/" for folder in ON_CLUSTERS))
            return "clusters" if on_clusters else path

    return Together(config, log)
