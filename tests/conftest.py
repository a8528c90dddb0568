"""What all tests may ask for, and which of them stay together when `make test` runs them in several processes."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from kube.fixtures import api_server

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

__all__ = ["api_server"]

ON_CLUSTERS = ("e2e_cluster", "images", "kube", "kubectl")
"""Folders that share clusters and images: two at once would be one too many for a small machine."""
LONGEST = (ON_CLUSTERS, ("e2e", "network"))
"""Folders whose files take minutes, the slowest ones together: they go first, and so all processes end together."""


def pytest_configure() -> None:
    """Programs that tests start hear Ctrl-C, also where a shell started pytest in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not _is_in(folders, item.nodeid) for folders in LONGEST])


def _is_in(folders: tuple[str, ...], nodeid: str) -> bool:
    return nodeid.startswith(tuple(f"tests/{folder}/" for folder in folders))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """A file stays together, for the sake of what it starts once; so do all tests on clusters."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # else the files with the most tests go first

    class Together(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return "clusters" if _is_in(ON_CLUSTERS, nodeid) else nodeid.partition("::")[0]

    return Together(config, log)


@pytest.fixture(autouse=True, scope="module")
def no_groups_are_left() -> Iterator[None]:
    """Of ranks, made in pytest's own process: each has a thread that wakes up a hundred times a second."""
    yield
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()
