"""Local files that a job names: whether they are there. `load.py` asks before anything starts."""

from __future__ import annotations

from pathlib import Path

from rljob_api.data import Dataset
from rljob_api.job import RLJob

from .document import Document
from .errors import Problem


def missing_paths(document: Document, job: RLJob, folder: Path) -> list[Problem]:
    """A problem for each model directory and data file that is not there; relative paths start at `folder`."""
    problems = [_missing_model(document, job, folder)]
    datasets = {"train": job.spec.data.train, "validation": job.spec.data.validation}
    problems += [_missing_data(document, name, dataset, folder) for name, dataset in datasets.items()]
    return [problem for problem in problems if problem is not None]


def _missing_model(document: Document, job: RLJob, folder: Path) -> Problem | None:
    path = folder / Path(job.spec.model.source).expanduser()
    if not job.spec.model.is_directory or path.is_dir():
        return None
    message = f"no directory {path}. Name one that holds a Hugging Face checkpoint, or an id of the hub."
    return document.problem(("spec", "model", "source"), message)


def _missing_data(document: Document, name: str, dataset: Dataset | None, folder: Path) -> Problem | None:
    if dataset is None or not dataset.is_file:
        return None
    path = folder / Path(dataset.source).expanduser()
    if path.is_file():
        return None
    message = f"no file {path}. Name a .jsonl or .parquet file that exists."
    return document.problem(("spec", "data", name, "source"), message)
