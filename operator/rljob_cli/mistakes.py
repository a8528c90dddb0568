"""What pydantic found wrong with a job file, in sentences with places. `load.py` calls it."""

from __future__ import annotations

import json

from pydantic_core import ErrorDetails

from rljob_api.base import API_VERSION, KIND
from rljob_api.job import MAX_NAME
from rljob_api.rules import BrokenRulesError

from .document import Document, FieldPath, dotted
from .errors import Problem
from .sound import Sound

HEADER = {"apiVersion": API_VERSION, "kind": KIND}


def wrong_header(document: Document) -> list[Problem]:
    """The models fill in kind and version for programs; in a file they must stand there, or kubectl refuses it."""
    return [
        document.problem((key,), f"write `{key}: {value}`.")
        for key, value in HEADER.items()
        if document.data.get(key) != value
    ]


def problems(document: Document, sound: Sound, mistake: ErrorDetails) -> list[Problem]:
    """What `mistake` says of `document`, as far as it is not in doubt."""
    path: FieldPath = mistake["loc"]
    if broken := broken_rules(mistake):
        sure = [rule for rule in broken.rules if sound.decides(rule)]
        return [document.problem((*path, *rule.path.split(".")), rule.message) for rule in sure]
    if path[0] in HEADER or sound.doubted(path):
        return []  # `wrong_header` has said it, or it came of what was taken out
    return [_problem(document, path, mistake)]


def broken_rules(mistake: ErrorDetails) -> BrokenRulesError | None:
    """The rules over several fields that are the mistake; None if one field is wrong by itself."""
    error = mistake.get("ctx", {}).get("error")
    return error if isinstance(error, BrokenRulesError) else None


def _problem(document: Document, path: FieldPath, mistake: ErrorDetails) -> Problem:
    match mistake:
        case {"ctx": {"error": ValueError() as error}}:
            return document.problem(path, str(error))
        case {"type": "extra_forbidden"}:
            return document.problem(path, _unknown(path), at_key=True)
        case {"type": "missing"}:
            return document.problem(path, f"it is missing{_expected(path, ': write ')}.{_more(path)}")
        case _:
            return document.problem(path, _misfit(path, mistake))


def _misfit(path: FieldPath, mistake: ErrorDetails) -> str:
    got = _shown(mistake["input"])
    scalar = not isinstance(mistake["input"], dict | list)
    quotes = f' Put it in quotes: "{got}".' if scalar and mistake["type"] == "string_type" else ""
    return f"{got} does not fit{_expected(path, ': it must be ')}.{quotes}{_more(path)}"


def _unknown(path: FieldPath) -> str:
    from rljob_api.fields import suggestion

    return f"there is no field `{path[-1]}` here.{suggestion(str(path[-1]), _beside(path))}"


def field_meant(path: FieldPath) -> FieldPath | None:
    """The field that an unknown one was perhaps meant to be."""
    from rljob_api.fields import closest

    name = closest(str(path[-1]), _beside(path))
    return (*path[:-1], name) if name else None


def _beside(path: FieldPath) -> list[str]:
    """What may stand in the section of `path`."""
    from rljob_api.fields import field

    if parents := path[:-1]:
        return [child.name for child in field(dotted(parents)).children]
    return [*HEADER, "metadata", "spec"]


def _expected(path: FieldPath, lead: str) -> str:
    """What the schema allows at `path`; empty for the parts that every Kubernetes object has."""
    from rljob_api.fields import field

    match path:
        case ("spec", *_):
            return f"{lead}{field(dotted(path)).kind}"
        case ("metadata",):
            return f"{lead}a section with a `name`"
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
