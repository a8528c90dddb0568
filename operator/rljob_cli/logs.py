"""`rljob logs`: what the processes of a local job said."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from rljob_api.failure import RoleName

from .errors import UserMistake
from .places import Job, find_work_dir

POLL_SECONDS = 0.3


def logs(
    job: Job = None,
    role: Annotated[RoleName | None, typer.Option(help="Only pods of this role.", show_default=False)] = None,
    pod: Annotated[str, typer.Option(help="Only pods whose name contains this.")] = "",
    lines: Annotated[int, typer.Option("--tail", help="So many last lines of each.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they grow.")] = False,
) -> None:
    """Show what a job's processes said."""
    folder, wanted = find_work_dir(job).logs, Wanted(role, pod)
    found = sorted(_logs(folder, wanted), key=lambda path: path.stat().st_mtime)
    if not found and not follow:
        raise UserMistake(_none(folder, wanted))
    read = {path: _print_tail(path, lines) for path in found}
    while follow:
        time.sleep(POLL_SECONDS)
        for path in _logs(folder, wanted):
            read[path] = _print_from(path, read.get(path, 0))


class Wanted(NamedTuple):
    """Whose logs."""

    role: RoleName | None = None
    pod: str = ""
    """Part of the name; empty: any."""

    def __str__(self) -> str:
        kind = f"{self.role} pod" if self.role else "pod"
        return f"a {kind} like `{self.pod}`" if self.pod else f"a {kind}"


def _none(folder: Path, wanted: Wanted) -> str:
    known = ", ".join(sorted(path.stem for path in _logs(folder, Wanted())))
    if not known:
        return f"no pod has said anything yet: there is no log in {folder}"
    return f"no log of {wanted} in {folder}; there are: {known}"


def _logs(folder: Path, wanted: Wanted) -> list[Path]:
    # An init container's name follows that of its pod.
    end = rf"-{wanted.role}-\d+(-\d+)?(\.\w+)?$" if wanted.role else ""
    return [path for path in folder.glob("*.log") if wanted.pod in path.stem and re.search(end, path.stem)]


def _print_tail(path: Path, lines: int) -> int:
    """Prints the last lines under a heading; returns how far was read."""
    data = path.read_bytes()
    print(f"==> {path.stem} <==")
    for line in data.decode(errors="replace").splitlines()[-lines:] if lines else []:
        print(line)
    return len(data)


def _print_from(path: Path, position: int) -> int:
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    if data:
        sys.stdout.write(f"==> {path.stem} <==\n{data.decode(errors='replace')}")
        sys.stdout.flush()
    return position + len(data)
