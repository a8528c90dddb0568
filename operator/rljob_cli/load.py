"""From a job file to an `RLJob`, or to every mistake in it with its place. All commands that take a file call this."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rljob_api.base import API_VERSION, KIND
from rljob_api.job import MAX_NAME, RLJob
from rljob_api.rules import BrokenRulesError

from .document import Document, FieldPath, dotted, read_document
from .errors import InvalidJob, Problem
from .paths import missing_paths


def load_job(path: Path | str) -> RLJob:
    """The RLJob in the file at `path`, whose local paths exist too; relative ones start at the file's folder.

    Raises `InvalidJob` with every mistake in it.
    """
    document = read_document(Path(path))
    job = parse_job(document)
    if problems := missing_paths(document, job, Path(path).parent):
        raise InvalidJob(problems)
    return job


def parse_job(document: Document) -> RLJob:
    """The RLJob in a document.

    Raises `InvalidJob` with every mistake in it.
    """
    problems = _wrong_header(document)
    try:
        job = RLJob.parse(document.data)
    except ValidationError as error:
        problems += [problem for mistake in error.errors() for problem in _problems(document, mistake)]
    if problems:
        unique = sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.path))
        raise InvalidJob(unique)
    return job


def _wrong_header(document: Document) -> list[Problem]:
    """The models fill in kind and version for programs; in a file they must stand there, or kubectl refuses it."""
    wanted = {"apiVersion": API_VERSION, "kind": KIND}
    return [
        document.problem((key,), f"write `{key}: {value}`.")
        for key, value in wanted.items()
        if document.data.get(key) != value
    ]


def _problems(document: Document, mistake: ErrorDetails) -> list[Problem]:
    path: FieldPath = mistake["loc"]
    match mistake:
        case {"loc": ("apiVersion" | "kind", *_)}:
            return []  # `_wrong_header` has said it
        case {"ctx": {"error": BrokenRulesError() as broken}}:
            return [document.problem((*path, *rule.path.split(".")), rule.message) for rule in broken.rules]
        case {"ctx": {"error": ValueError() as error}}:
            return [document.problem(path, str(error))]
        case {"type": "extra_forbidden"}:
            return [document.problem(path, _unknown(path), at_key=True)]
        case {"type": "missing"}:
            return [document.problem(path, f"it is missing{_expected(path, ': write ')}.{_more(path)}")]
        case _:
            return [document.problem(path, _misfit(path, mistake))]


def _misfit(path: FieldPath, mistake: ErrorDetails) -> str:
    got = _shown(mistake["input"])
    quotes = f' Put it in quotes: "{got}".' if mistake["type"] == "string_type" else ""
    return f"{got} does not fit{_expected(path, ': it must be ')}.{quotes}{_more(path)}"


def _unknown(path: FieldPath) -> str:
    from rljob_api.fields import field, suggestion

    *parents, name = path
    known = ["apiVersion", "kind", "metadata", "spec"]
    if parents:
        known = [child.name for child in field(dotted(tuple(parents))).children]
    return f"there is no field `{name}` here.{suggestion(str(name), known)}"


def _expected(path: FieldPath, lead: str) -> str:
    """What the schema allows at `path`; empty for the parts that every Kubernetes object has."""
    from rljob_api.fields import field

    match path:
        case ("spec", *_):
            return f"{lead}{field(dotted(path)).kind}"
        case ("metadata", "name"):
            return f"{lead}at most {MAX_NAME} characters of a-z, 0-9 and -, the first a letter and the last no dash"
        case _:
            return ""


def _more(path: FieldPath) -> str:
    return f" See `rljob explain {_explainable(path)}`." if path[:1] == ("spec",) else ""


def _explainable(path: FieldPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _shown(value: object) -> str:
    """The value as YAML would write it, cut when long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
