"""Fields of an RLJob by their path: what `rljob explain`, the reference and the messages of `rljob validate` say.

Everything is read from the structural schema, so that they never disagree with the API server.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .base import Manifest
from .checkpoint import ABSOLUTE_PATH
from .schema import spec_schema, status_schema


@dataclass(frozen=True)
class Field:
    """One field of `spec` or `status`."""

    path: str
    """For example `spec.trainer.env[].name`."""
    schema: Manifest
    required: bool

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def kind(self) -> str:
        """Type and bounds, for people: `integer from 1 to 4096`."""
        return _kind(self.schema)

    @property
    def default(self) -> str | None:
        """The default as YAML writes it; None without one, and for sections, whose fields have their own."""
        if "default" not in self.schema or self.schema["default"] == {}:
            return None
        return json.dumps(self.schema["default"])

    @property
    def children(self) -> list[Field]:
        """The fields below, in the order of the models; those of a list are those of its items."""
        holder, path = self.schema, self.path
        if "items" in holder:
            holder, path = holder["items"], f"{path}[]"
        required = holder.get("required", [])
        below = holder.get("properties", {})
        return [Field(f"{path}.{name}", schema, name in required) for name, schema in below.items()]


class NoSuchFieldError(LookupError):
    """A path that names no field; the message says which part, and what was meant perhaps."""


def field(path: str) -> Field:
    """The field at a dotted path from `spec` or `status`, for example `spec.trainer.env[0].name` or `….env.name`.

    Raises `NoSuchFieldError`.
    """
    first, *rest = re.findall(r"[^.\[\]]+", path) or [""]
    roots = {"spec": spec_schema, "status": status_schema}
    if first not in roots:
        raise NoSuchFieldError(f"no field `{first}`: a path starts with `spec` or `status`.")
    found = Field(first, roots[first](), required=first == "spec")
    for part in rest:
        found = _step(found, part)
    return found


def _step(found: Field, part: str) -> Field:
    match found.schema:
        case {"items": items} if part.isdigit():
            return Field(f"{found.path}[]", items, required=False)
        case {"additionalProperties": value}:
            return Field(f"{found.path}.{part}", value, required=False)
        case _:
            return _child(found, part)


def _child(found: Field, part: str) -> Field:
    children = {child.name: child for child in found.children}
    if part not in children:
        raise NoSuchFieldError(f"no field `{part}` in `{found.path}`.{suggestion(part, list(children))}")
    return children[part]


def below(found: Field) -> Iterator[Field]:
    """All fields below `found`, each before its own children."""
    for child in found.children:
        yield child
        yield from below(child)


def suggestion(word: str, known: list[str]) -> str:
    """` Did you mean …?`, or what there is; empty when there is nothing."""
    if close := closest(word, known):
        return f" Did you mean `{close}`?"
    return f" There is: {', '.join(known)}." if known else ""


def closest(word: str, known: list[str]) -> str | None:
    """The name that `word` was perhaps meant to be."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("_", ""), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def _kind(schema: Manifest) -> str:  # noqa: PLR0911 - one line per type
    match schema:
        case {"enum": values}:
            return f"one of {', '.join(values)}"
        case {"type": "array", "items": items}:
            return f"a list of {_count(schema)}items, each {_kind(items)}"
        case {"type": "object", "additionalProperties": items}:
            return f"a map from names to values, each {_kind(items)}"
        case {"type": "object"}:
            return "a section with fields of its own"
        case {"type": "string", "pattern": pattern} if pattern == ABSOLUTE_PATH:
            return "an absolute path, without a slash at its end"
        case {"type": "string"}:
            return f"a text{_length(schema)}"
        case {"type": "integer"}:
            return f"an integer{_range(schema)}"
        case {"type": "number"}:
            return f"a number{_range(schema)}"
        case {"type": "boolean"}:
            return "true or false"
        case _:
            raise ValueError(f"no words for {schema}")


def _range(schema: Manifest) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = "above" if schema.get("exclusiveMinimum") else "from"
    under = "below" if schema.get("exclusiveMaximum") else "to"
    return (f" {above} {low}" if low is not None else "") + (f" {under} {high}" if high is not None else "")


def _length(schema: Manifest) -> str:
    least, most, pattern = (schema.get(key) for key in ("minLength", "maxLength", "pattern"))
    if pattern is not None:
        return f" like {pattern}"
    return f" of {least or 0} to {most} characters" if most is not None else ""


def _count(schema: Manifest) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    return f"{least or 0} to {most} " if most is not None else ""
