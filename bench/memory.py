"""Resident memory of processes, and its peaks in a running job, as the kernel keeps them."""

from __future__ import annotations

import re
from pathlib import Path

from e2e.local_job import LocalJob

KINDS = {
    "api_server": "vllm_server",
    "rljob_trainer train": "trainer_rank_or_launcher",
    "rljob_cli": "rljob_run",
}
"""Part of a process's command line → what it is. Ranks are forked from their launcher and share its pages."""


class PeakMemory:
    """Highest resident memory of each kind of process below a process group's leader, in MiB."""

    def __init__(self, job: LocalJob) -> None:
        self._job = job
        self.mib: dict[str, int] = {}

    def look(self) -> None:
        """Call it now and then while the job runs; the kernel keeps the peaks of processes that live."""
        assert self._job.process is not None
        pods = [pid for pids in self._job.pods().values() for pid in pids]
        for pid in [self._job.process.pid, *pods]:
            kind = kind_of(pid)
            if kind is not None:
                self.mib[kind] = max(self.mib.get(kind, 0), round(peak_mib(pid)))


def kind_of(pid: int) -> str | None:
    command = _read(pid, "cmdline").replace("\0", " ")
    return next((kind for part, kind in KINDS.items() if part in command), None)


def rss_mib(pid: int) -> float:
    """Now."""
    return _mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most it ever was."""
    return _mib(pid, "VmHWM")


def _mib(pid: int, which: str) -> float:
    """0 for a process that has just ended."""
    found = re.search(rf"{which}:\s+(\d+) kB", _read(pid, "status"))
    return int(found[1]) / 1024 if found else 0.0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
