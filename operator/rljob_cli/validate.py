"""`rljob validate FILE…`: every mistake in job files, before anything starts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .errors import InvalidJob, Problem
from .load import load_job
from .output import Output, OutputOption

EXIT_INVALID = 1


def validate(
    files: Annotated[list[Path], typer.Argument(help="Job files.", show_default=False)],
    output: OutputOption = Output.TEXT,
) -> None:
    """Check job files: every mistake with its line, what is allowed, and the next step. Exit code 1 if there is any."""
    found = {file: problems_of(file) for file in files}
    print(_as_json(found) if output is Output.JSON else _as_text(found))
    if any(found.values()):
        raise typer.Exit(EXIT_INVALID)


def problems_of(file: Path) -> list[Problem]:
    """Every mistake in a job file; empty for a good one."""
    try:
        load_job(file)
    except InvalidJob as invalid:
        return invalid.problems
    return []


def _as_text(found: dict[Path, list[Problem]]) -> str:
    lines = [[str(problem) for problem in problems] or [f"{file}: ok"] for file, problems in found.items()]
    return "\n".join(line for group in lines for line in group)


def _as_json(found: dict[Path, list[Problem]]) -> str:
    answer = [
        {"file": str(file), "ok": not problems, "problems": [asdict(problem) for problem in problems]}
        for file, problems in found.items()
    ]
    return json.dumps(answer, indent=2)
