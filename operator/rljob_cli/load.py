"""From a job file to an `RLJob`, or to every mistake in it with its place. All commands that take a file call this."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rljob_api.base import Manifest
from rljob_api.job import JobSpec, RLJob

from .document import Document, read_document
from .errors import InvalidJob, Problem
from .mistakes import broken_rules, field_meant, problems, wrong_header
from .paths import missing_paths
from .sound import Sound

ROUNDS = 8
"""How often a broken document is looked through anew: it takes two or three."""


def load_job(path: Path | str) -> RLJob:
    """The RLJob in the file at `path`, whose local paths exist too; relative ones start at the file's folder.

    Raises `InvalidJob` with every mistake in it.
    """
    return _parse(read_document(Path(path)), Path(path).parent)


def parse_job(document: Document) -> RLJob:
    """The RLJob in a document, wherever its local paths are.

    Raises `InvalidJob` with every mistake in it.
    """
    return _parse(document, None)


def _parse(document: Document, folder: Path | None) -> RLJob:
    try:
        job = RLJob.parse(document.data)
    except ValidationError:
        raise InvalidJob(_in_order(_mistakes(document, folder))) from None
    if found := [*wrong_header(document), *_missing(document, job.spec, Sound({}), folder)]:
        raise InvalidJob(_in_order(found))
    return job


def _mistakes(document: Document, folder: Path | None) -> list[Problem]:
    """Every mistake: what does not fit is taken out, until rules and paths of the rest can be looked at."""
    found, sound = wrong_header(document), Sound(document.data)
    for _ in range(ROUNDS):
        spec, errors = _read(sound.data)
        found += [told for error in errors for told in problems(document, sound, error)]
        if spec is not None:
            found += _missing(document, spec, sound, folder)
        misfits = [error["loc"] for error in errors if broken_rules(error) is None]
        if not misfits:
            break
        unknown = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
        sound = sound.without(misfits, [meant for path in unknown if (meant := field_meant(path))])
    return found


def _read(data: Manifest) -> tuple[JobSpec | None, list[ErrorDetails]]:
    """The spec, if each field of it fits, and what is wrong."""
    try:
        return RLJob.parse(data).spec, []
    except ValidationError as error:
        errors = error.errors()
    broken = [rules.spec for each in errors if (rules := broken_rules(each))]
    return (broken[0] if broken else None), errors


def _missing(document: Document, spec: JobSpec, sound: Sound, folder: Path | None) -> list[Problem]:
    """Local paths that are not there; what a volume holds is in doubt while its mounts are."""
    if folder is None or sound.doubted(("spec", "trainer", "volumeMounts")):
        return []
    return missing_paths(document, spec, folder)


def _in_order(found: list[Problem]) -> list[Problem]:
    return sorted(set(found), key=lambda problem: (problem.line, problem.column, problem.path))
