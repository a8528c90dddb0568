"""`rljob validate FILE…`: every mistake in job files, before anything starts. `rljob run` uses `checked_job`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rljob_api.data import Dataset
from rljob_api.job import RLJob

from .document import Document, FieldPath, read_document
from .errors import InvalidJob, Problem
from .load import parse_job

EXIT_INVALID = 1


class Output(StrEnum):
    """How a command answers: for people or for programs."""

    TEXT = "text"
    JSON = "json"


def validate(
    files: Annotated[list[Path], typer.Argument(help="Job files.", show_default=False)],
    output: Annotated[
        Output, typer.Option("--output", "-o", help="text for people, json for programs.")
    ] = Output.TEXT,
) -> None:
    """Check job files: every mistake with its line, what is allowed, and the next step. Exit code 1 if there is any."""
    found = {file: problems_of(file) for file in files}
    print(_as_json(found) if output is Output.JSON else _as_text(found))
    if any(found.values()):
        raise typer.Exit(EXIT_INVALID)


def problems_of(file: Path) -> list[Problem]:
    """Every mistake in a job file; empty for a good one."""
    try:
        checked_job(file)
    except InvalidJob as invalid:
        return invalid.problems
    return []


def checked_job(file: Path) -> RLJob:
    """The RLJob in a file whose local paths exist too. Relative paths start at the file's directory.

    Raises `InvalidJob` with every mistake in it.
    """
    document = read_document(file)
    job = parse_job(document)
    if problems := _missing_paths(document, job, file.parent):
        raise InvalidJob(problems)
    return job


def _missing_paths(document: Document, job: RLJob, folder: Path) -> list[Problem]:
    problems = []
    model, data = job.spec.model, job.spec.data
    if model.is_directory and not _at(folder, model.source).is_dir():
        message = f"no directory {_at(folder, model.source)}. Name one that holds a Hugging Face checkpoint, or an id."
        problems.append(document.problem(("spec", "model", "source"), message))
    datasets: list[tuple[str, Dataset | None]] = [("train", data.train), ("validation", data.validation)]
    for name, dataset in datasets:
        if dataset is not None and dataset.is_file and not _at(folder, dataset.source).is_file():
            path: FieldPath = ("spec", "data", name, "source")
            message = f"no file {_at(folder, dataset.source)}. Name a .jsonl or .parquet file that exists."
            problems.append(document.problem(path, message))
    return problems


def _at(folder: Path, source: str) -> Path:
    return folder / Path(source).expanduser()


def _as_text(found: dict[Path, list[Problem]]) -> str:
    lines = [[str(problem) for problem in problems] or [f"{file}: ok"] for file, problems in found.items()]
    return "\n".join(line for group in lines for line in group)


def _as_json(found: dict[Path, list[Problem]]) -> str:
    answer = [
        {"file": str(file), "ok": not problems, "problems": [asdict(problem) for problem in problems]}
        for file, problems in found.items()
    ]
    return json.dumps(answer, indent=2)
