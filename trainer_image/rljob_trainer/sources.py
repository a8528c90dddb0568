"""Where rows come from: `spec.data.*.source` → a list of plain rows. Called by `data` alone.

Every row that a source gives is a dictionary of columns; what a column means is decided in `data`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rljob_api.data import REASONING_GYM, Dataset
from rljob_api.model import BUILTIN_ADDITION
from rljob_trainer.checkpoint.durable import storage_errors
from rljob_trainer.errors import Mistake

Row = dict[str, Any]
VALIDATION_SEED_OFFSET = 500_000_000
"""A reasoning-gym item depends on seed + index: far apart, so that training and validation items differ."""


@dataclass(frozen=True)
class Purpose:
    """Which of the two datasets is being read."""

    field: str
    """For messages: `spec.data.train` or `spec.data.validation`."""
    split: str
    """Split of a source that has splits and no `split` given."""
    seed: int
    """Of a task that makes its items up."""


def read_rows(dataset: Dataset, purpose: Purpose) -> list[Row]:
    """All rows of a source, in its own order, at least one.

    Raises `Mistake`, `StorageError` for a volume that fails, and `UnreachableError`.
    """
    rows = _reader(dataset.source)(dataset, purpose)
    if not rows:
        raise Mistake(f"{purpose.field}.source: {dataset.source!r} has no rows")
    return rows


def _reader(source: str) -> Callable[[Dataset, Purpose], list[Row]]:
    if source == BUILTIN_ADDITION:
        return _builtin_addition
    if source.startswith(REASONING_GYM):
        return _reasoning_gym
    match Path(source).suffix:
        case ".jsonl":
            return _jsonl
        case ".parquet":
            return _parquet
        case _:
            return _hugging_face


def _builtin_addition(dataset: Dataset, purpose: Purpose) -> list[Row]:
    from rljob_trainer.builtin.addition import problems

    split = dataset.split or purpose.split
    if split not in problems.SPLITS:
        raise Mistake(
            f"{purpose.field}.split: {BUILTIN_ADDITION} has {_listed(problems.SPLITS)}, not {split!r}"
        )
    return problems.rows(split)


def _reasoning_gym(dataset: Dataset, purpose: Purpose) -> list[Row]:
    import reasoning_gym

    task = dataset.source.removeprefix(REASONING_GYM)
    if task not in reasoning_gym.factory.DATASETS:
        raise Mistake(
            f"{purpose.field}.source: reasoning-gym has no task {task!r}; see reasoning_gym.factory.DATASETS"
        )
    return list(reasoning_gym.create_dataset(task, size=dataset.size, seed=purpose.seed))


def _jsonl(dataset: Dataset, purpose: Purpose) -> list[Row]:
    with _file(dataset, purpose) as path, path.open("rb") as lines:
        return [
            _json_row(line, f"{path}:{number}", purpose)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]


def _json_row(line: bytes, place: str, purpose: Purpose) -> Row:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise Mistake(
            f"{purpose.field}.source: {place} is not UTF-8 ({error.reason} at byte {error.start} of the line): "
            "save the file as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise Mistake(f"{purpose.field}.source: {place} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise Mistake(f"{purpose.field}.source: {place} is not a JSON object with columns")
    return row


def _parquet(dataset: Dataset, purpose: Purpose) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    with _file(dataset, purpose) as path:
        try:
            rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            if getattr(error, "errno", None) is not None:  # the system's own: damage has none
                raise
            raise Mistake(f"{purpose.field}.source: {path} is not a whole Parquet file: {error}") from error
    return rows


@contextmanager
def _file(dataset: Dataset, purpose: Purpose) -> Iterator[Path]:
    """A file that is there, to be read inside. Raises `StorageError` if the volume fails meanwhile."""
    path = Path(dataset.source)
    with storage_errors(path.absolute().parent, f"Reading {purpose.field}.source"):
        try:
            if not path.is_file():
                raise Mistake(
                    f"{purpose.field}.source: no file {dataset.source!r} (looked in {Path.cwd()}). A pod of a cluster "
                    "has no files of your machine: mount a claim or a ConfigMap that has it by "
                    "spec.trainer.volumeMounts, and name its path there."
                )
            yield path
        except PermissionError as error:
            raise Mistake(
                f"{purpose.field}.source: {path} may not be read ({error.strerror}). Let user {os.getuid()} read it."
            ) from error


def _hugging_face(dataset: Dataset, purpose: Purpose) -> list[Row]:
    import datasets

    from rljob_trainer.hub import HUB_ERRORS, refusal

    split = dataset.split or purpose.split
    try:
        with storage_errors(Path(datasets.config.HF_DATASETS_CACHE), "Fetching the dataset"), _outer_causes():
            loaded = datasets.load_dataset(dataset.source, dataset.config or None, split=split)
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        # A ValueError names an unknown configuration or split.
        raise Mistake(
            f"{purpose.field}: Hugging Face dataset {dataset.source!r} "
            f"(config {dataset.config or 'default'!r}, split {split!r}): {error}"
        ) from error
    except HUB_ERRORS as error:  # after the library's own five tries
        what = f"{purpose.field}.source: Hugging Face dataset {dataset.source!r}"
        offline = datasets.config.HF_HUB_OFFLINE
        raise refusal(what, "a .jsonl or .parquet file", error, offline=offline) from error
    return list(loaded)


@contextmanager
def _outer_causes() -> Iterator[None]:
    """What the volume or the network did while a dataset was made, which the library tells as a fault of its rows."""
    from datasets.exceptions import DatasetGenerationError

    from rljob_trainer.hub import HUB_ERRORS

    try:
        yield
    except DatasetGenerationError as error:
        cause = error.__cause__
        # pyarrow's own, of what does not fit its format.
        of_a_file = type(cause) is OSError and cause.errno is None
        if isinstance(cause, HUB_ERRORS) and not of_a_file:
            raise cause from None
        raise


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
