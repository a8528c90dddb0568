"""`rljob explain FIELD`: type, default, bounds, meaning and children of a field."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Annotated

import typer

from rljob_api.fields import Field, NoSuchFieldError, field

from .output import Output, OutputOption
from .validate import EXIT_INVALID

SUMMARY_WIDTH = 120
"""Characters of the summary of a child, if its first sentence is not longer."""


def fields_like(incomplete: str) -> list[str]:
    """Fields that begin so, for completion in a shell."""
    parent, dot, _ = incomplete.rpartition(".")
    try:
        found = [child.path for child in field(parent).children] if dot else ["spec", "status"]
    except NoSuchFieldError:
        return []
    return [path for path in found if path.startswith(incomplete)]


def explain(
    path: Annotated[
        str,
        typer.Argument(
            help="For example spec.checkpoint or spec.rollout.replicas.", autocompletion=fields_like
        ),
    ] = "spec",
    output: OutputOption = Output.TEXT,
) -> None:
    """Explain a field: type, default, bounds, children. Exit code 1 if there is no such field."""
    try:
        found = field(path)
    except NoSuchFieldError as unknown:
        typer.echo(str(unknown), err=True)
        raise typer.Exit(EXIT_INVALID) from None
    print(json.dumps(_as_json(found), indent=2) if output is Output.JSON else _as_text(found))


def _as_text(found: Field) -> str:
    head = [f"{found.path}: {found.kind}{_default(found)}", "", *_indented(found.description)]
    if not found.children:
        return "\n".join(head)
    width = max(len(child.name) for child in found.children)
    lines = [f"  {child.name:<{width}}  {_summary(child)}" for child in found.children]
    return "\n".join([*head, "", "Fields:", *lines])


def _default(found: Field) -> str:
    if found.required:
        return ", required"
    return f", default {found.default}" if found.default is not None else ""


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _summary(child: Field) -> str:
    note = "required" if child.required else f"default {child.default}" if child.default is not None else ""
    told = _first_sentences(child.description)
    return f"{told} ({note})" if note else told


def _first_sentences(text: str) -> str:
    """Whole ones, as many as fit, and the first in any case; without what each word of an enumeration means."""
    about = re.split(r"\n`\w+`: ", text)[0]
    sentences = re.split(r"(?<=\.) ", " ".join(about.split()))
    first, *longer = accumulate(sentences, "{} {}".format)
    return [first, *(each for each in longer if len(each) <= SUMMARY_WIDTH)][-1]


def _as_json(found: Field) -> dict[str, object]:
    return {
        "path": found.path,
        "kind": found.kind,
        "required": found.required,
        "default": found.schema.get("default"),
        "description": found.description,
        "schema": {
            key: value for key, value in found.schema.items() if key not in {"properties", "description"}
        },
        "fields": [child.path for child in found.children],
    }
