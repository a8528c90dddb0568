"""From a model to a Kubernetes structural schema: no references, no alternatives, only what the API server allows.

`crd.py` puts it into the CRD; `fields.py` reads names, bounds and descriptions from it.
"""

from __future__ import annotations

import ast
import inspect
from enum import Enum
from functools import cache
from typing import Any

from pydantic import BaseModel

from . import (
    algorithm,
    checkpoint,
    failure,
    parallelism,
    placement,
    reasons,
    reward,
    status,
    template,
    weights,
)
from .base import Manifest
from .job import JobSpec
from .status import Status

DROPPED = {"title", "$defs", "discriminator", "examples", "additionalProperties", "propertyNames"}
"""Keywords that a structural schema refuses; a map's `additionalProperties` is put back."""


@cache
def spec_schema() -> Manifest:
    """`spec`, with defaults and bounds. Shared: not to be changed."""
    return structural(JobSpec)


@cache
def status_schema() -> Manifest:
    """`status`, all fields optional: it is written piece by piece. Shared: not to be changed."""
    return _without(structural(Status), {"default", "required"})


def structural(model: type[BaseModel]) -> Manifest:
    """The structural schema of `model`."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: Manifest, definitions: Manifest) -> Manifest:
    node = _inlined(_without_alternatives(node), definitions)
    kept = {key: value for key, value in node.items() if key not in DROPPED}
    if "properties" in node:
        properties = node["properties"].items()
        kept["properties"] = {name: _structural(below, definitions) for name, below in properties}
    if "items" in node:
        kept["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    return _with_kubernetes_spelling(kept)


def _inlined(node: Manifest, definitions: Manifest) -> Manifest:
    """`node` with what it refers to; what stands beside the reference wins."""
    if "$ref" not in node:
        return node
    name = node["$ref"].removeprefix("#/$defs/")
    beside = {key: value for key, value in node.items() if key != "$ref"}
    inlined = {**definitions[name], **beside}
    if choices := enum_descriptions().get(name):
        inlined["description"] = _with_choices(inlined.get("description", ""), choices)
    return _inlined(inlined, definitions)


def _without_alternatives(node: Manifest) -> Manifest:
    """An optional field is one that may be absent: `null` is no alternative, and no default."""
    if "anyOf" not in node:
        return node
    (only,) = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    beside = {
        key: value for key, value in node.items() if key != "anyOf" and (key, value) != ("default", None)
    }
    return {**only, **beside}


def _with_kubernetes_spelling(node: Manifest) -> Manifest:
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in node:
            node[bound.lower()] = node[f"exclusive{bound}"]
            node[f"exclusive{bound}"] = True
    if node.get("type") == "object" and "default" in node:
        node["default"] = {}  # the fields below carry their own defaults
    return node


def _without(node: Manifest, keys: set[str]) -> Manifest:
    kept: Manifest = {key: value for key, value in node.items() if key not in keys}
    if "properties" in node:
        kept["properties"] = {name: _without(below, keys) for name, below in node["properties"].items()}
    if "items" in node:
        told_apart_by = node.get("x-kubernetes-list-map-keys")
        required = {"required": told_apart_by} if told_apart_by else {}
        kept["items"] = _without(node["items"], keys) | required
    return kept


@cache
def enum_descriptions() -> dict[str, dict[str, str]]:
    """What each value of each enumeration of the API means: the text under it, by class name and value."""
    rooms = (
        algorithm,
        checkpoint,
        failure,
        parallelism,
        placement,
        reasons,
        reward,
        status,
        template,
        weights,
    )
    classes = {value for room in rooms for value in vars(room).values() if _is_enum(value)}
    return {choice.__name__: _member_docstrings(choice) for choice in classes}


def _is_enum(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Enum) and value.__module__.startswith("rljob_api.")


def _member_docstrings(choice: type[Enum]) -> dict[str, str]:
    (body,) = ast.parse(inspect.getsource(choice)).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for member, text in zip(body.body, body.body[1:], strict=False):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(words))):
                found[choice[name].value] = inspect.cleandoc(words)
            case _:
                pass
    return found


def _with_choices(description: str, choices: dict[str, str]) -> str:
    lines = [f"`{value}`: {words}" for value, words in choices.items()]
    return "\n".join([description, *lines]).strip()
