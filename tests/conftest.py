"""What all tests may ask for, and which of them stay together when `make test` runs them in several processes."""

from __future__ import annotations

import gc
import itertools
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kube.fixtures import api_server

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

__all__ = ["api_server"]

LONGEST = {"clusters": ("e2e_cluster", "images", "kube", "kubectl"), "jobs": ("e2e", "network")}
"""Folders whose tests take minutes, the slowest ones first: so all processes end together. Those of a row stay in one
process: two clusters, or whole jobs beside a cluster and others, would keep two cores from getting anywhere."""


def pytest_configure(config: pytest.Config) -> None:
    """Programs that tests start hear Ctrl-C, also where a shell started pytest in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Told(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not _is_in(folders, item.nodeid) for folders in LONGEST.values()])


def _is_in(folders: tuple[str, ...], nodeid: str) -> bool:
    return nodeid.startswith(tuple(f"tests/{folder}/" for folder in folders))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """A file stays together, for the sake of what it starts once; so do those of `LONGEST`."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # else the files with the most tests go first

    class Together(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            rows = (name for name, folders in LONGEST.items() if _is_in(folders, nodeid))
            return next(rows, nodeid.partition("::")[0])

    return Together(config, log)


class Told:
    """A failure is told when it happens, also one before a second try, and a test that took long: a run that is cut off
    tells nothing at its end."""

    LONG_SECONDS = 60.0
    LINES = 40

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        fails = report.outcome in ("failed", "rerun")
        if terminal is None or not (fails or report.duration > self.LONG_SECONDS):
            return
        terminal.write(f"\n{report.outcome} after {report.duration:.0f} s ({report.when}): {report.nodeid}\n")
        if fails:
            terminal.write_line("\n".join(report.longreprtext.splitlines()[-self.LINES :]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each folder cost: whoever wants `make test` to be shorter knows where to look."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[str(Path(report.nodeid.partition("::")[0]).parent)] += report.duration
    told = (
        f"{folder} {taken / 60:.1f}" for folder, taken in sorted(seconds.items(), key=lambda item: -item[1])
    )
    terminalreporter.write_line(f"minutes by folder, of all processes: {', '.join(told)}")


@pytest.fixture(autouse=True, scope="module")
def no_groups_are_left() -> Iterator[None]:
    """Of ranks, made in pytest's own process: each has a thread that wakes up a hundred times a second."""
    yield
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()
