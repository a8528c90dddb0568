"""`rljob logs`: what the processes of a local job said."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from .errors import UserMistake
from .places import Job, find_work_dir

POLL_SECONDS = 0.3


def logs(
    job: Job = None,
    pod: Annotated[str, typer.Option(help="Only pods whose name contains this.")] = "",
    lines: Annotated[int, typer.Option("--tail", help="So many last lines of each.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they grow.")] = False,
) -> None:
    """Show what a job's processes said."""
    folder = find_work_dir(job).logs
    found = sorted(_logs(folder, pod), key=lambda path: path.stat().st_mtime)
    if not found and not follow:
        raise UserMistake(_none(folder, pod))
    read = {path: _print_tail(path, lines) for path in found}
    while follow:
        time.sleep(POLL_SECONDS)
        for path in _logs(folder, pod):
            read[path] = _print_from(path, read.get(path, 0))


def _none(folder: Path, pod: str) -> str:
    known = ", ".join(sorted(path.stem for path in _logs(folder, "")))
    if not known:
        return f"no pod has said anything yet: there is no log in {folder}"
    return f"no log of a pod like `{pod}` in {folder}; there are: {known}"


def _logs(folder: Path, pod: str) -> list[Path]:
    return [path for path in folder.glob("*.log") if pod in path.stem]


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
