"""Local files that a job names: whether they are there and may be read. `load.py` asks before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from rljob_api.data import Dataset
from rljob_api.job import JobSpec
from rljob_api.model import why_no_model

from .document import Document
from .errors import Problem


def missing_paths(document: Document, spec: JobSpec, folder: Path) -> list[Problem]:
    """A problem for each model directory and data file that cannot be read; relative paths start at `folder`.

    What lies on a volume of the cluster cannot be looked for here.
    """
    problems = [_missing_model(document, spec, folder)]
    datasets = {"train": spec.data.train, "validation": spec.data.validation}
    problems += [
        _missing_data(document, name, dataset, folder)
        for name, dataset in datasets.items()
        if dataset is not None and not _mounted(spec, dataset.source)
    ]
    return [problem for problem in problems if problem is not None]


def _missing_model(document: Document, spec: JobSpec, folder: Path) -> Problem | None:
    if not spec.model.is_directory or _mounted(spec, spec.model.source):
        return None
    path = _place(folder, spec.model.source)
    wanted = "Name one that holds a Hugging Face checkpoint, or an id of the hub."
    message = _trouble(path, S_ISDIR, f"no directory {path}. {wanted}")
    if not message and (why := why_no_model(path)):
        message = f"{path} {why}. {wanted}"
    return document.problem(("spec", "model", "source"), message) if message else None


def _place(folder: Path, source: str) -> Path:
    try:
        return folder / Path(source).expanduser()
    except RuntimeError:  # the home of somebody who is not there
        return folder / source


def _trouble(path: Path, is_kind: Callable[[int], bool], missing: str) -> str:
    """Why it cannot be read, `missing` if nothing of that kind is there; empty if it can."""
    forbidden = f"{path} may not be read; change its permissions."
    try:
        there = is_kind(path.stat().st_mode)
    except PermissionError:
        return forbidden
    except (OSError, ValueError):  # also a name that the system refuses, for example because it is too long
        return missing
    if not there:
        return missing
    return "" if os.access(path, os.R_OK) else forbidden


def _mounted(spec: JobSpec, path: str) -> bool:
    return any(Path(path).is_relative_to(mount.mount_path) for mount in spec.trainer.volume_mounts)


def _missing_data(document: Document, name: str, dataset: Dataset, folder: Path) -> Problem | None:
    if not dataset.is_file:
        return None
    path = _place(folder, dataset.source)
    message = _trouble(path, S_ISREG, f"no file {path}. Name a .jsonl or .parquet file that exists.")
    return document.problem(("spec", "data", name, "source"), message) if message else None
