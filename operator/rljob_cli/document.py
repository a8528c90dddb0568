"""A YAML file as plain data, with the place of every field. `load.py` calls it; nothing here knows what an RLJob is.

YAML 1.2, as kubectl's users expect: `1e-6` is a number, and a date is a text, because JSON has no dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from rljob_api.base import Manifest

from .errors import InvalidJob, Problem

TAG = "tag:yaml.org,2002:"
DEEPEST = 32
"""Levels of nesting after which a file is refused: an RLJob has twelve, and an alias to its own parent has no end."""

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """One YAML document."""

    file: str
    data: Manifest
    keys: dict[FieldPath, Place]
    """Where each key stands."""
    values: dict[FieldPath, Place]
    """Where each value starts."""

    def problem(self, path: FieldPath, message: str, *, at_key: bool = False) -> Problem:
        """A mistake at `path`, or at its nearest parent that stands in the file."""
        place = self._place(path, at_key)
        return Problem(self.file, place.line, place.column, dotted(path), message)

    def _place(self, path: FieldPath, at_key: bool) -> Place:
        if path in self.values:
            return self.keys.get(path, self.values[path]) if at_key else self.values[path]
        return self._place(path[:-1], at_key=True) if path else Place(1, 1)


def dotted(path: FieldPath) -> str:
    """`("spec", "env", 0, "name")` as `spec.env[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_document(path: Path) -> Document:
    """The only document of the file at `path`.

    Raises `InvalidJob` when it cannot be read, is not YAML, holds no or several documents, or is not a mapping.
    """
    file = str(path)
    yaml = YAML(typ="safe", pure=True)
    try:
        nodes = [node for node in yaml.compose_all(_text(path)) if node.tag != f"{TAG}null"]
        root = _only(file, nodes)
        document = Document(file, {}, {}, {})
        _mark(root, (), document)
        document.data.update(yaml.constructor.construct_document(root))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidJob(
            [Problem(file, mark.line + 1, mark.column + 1, "", f"not YAML: {error.problem}")]
        ) from None
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidJob([Problem(file, 0, 0, "", f"not YAML: {reason}")]) from None
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        message = "no such file."
    except IsADirectoryError:
        message = "this is a directory; name a YAML file in it."
    except PermissionError:
        message = "this file may not be read; change its permissions."
    except UnicodeDecodeError as error:
        message = f"not a text file in UTF-8: {error.reason} at byte {error.start}."
    except OSError as error:
        message = f"this file cannot be read: {error.strerror}."
    raise InvalidJob([Problem(str(path), 0, 0, "", message)])


def _only(file: str, nodes: list[Any]) -> Any:
    if not nodes:
        raise InvalidJob([Problem(file, 0, 0, "", "the file is empty; write one RLJob into it.")])
    first, *others = nodes
    if others:
        raise _refusal(
            file, others[0], "a second document starts here; write one RLJob per file and no `---` after it."
        )
    if first.id != "mapping":
        raise _refusal(
            file, first, f"an RLJob is a mapping that starts with `apiVersion:`, and this is a {first.id}."
        )
    return first


def _refusal(file: str, node: Any, message: str) -> InvalidJob:
    return InvalidJob([Problem(file, node.start_mark.line + 1, node.start_mark.column + 1, "", message)])


def _mark(node: Any, path: FieldPath, document: Document) -> None:
    """Note the places of `node` and all below it."""
    document.values[path] = Place(node.start_mark.line + 1, node.start_mark.column + 1)
    if len(path) > DEEPEST:
        raise InvalidJob([document.problem(path, "nested too deeply.")])
    if node.tag == f"{TAG}timestamp":
        node.tag = f"{TAG}str"
    if node.id == "mapping":
        for key, value in node.value:
            if key.id != "scalar":
                raise InvalidJob([document.problem(path, "a key must be a word.")])
            below = (*path, str(key.value))
            document.keys[below] = Place(key.start_mark.line + 1, key.start_mark.column + 1)
            _mark(value, below, document)
    elif node.id == "sequence":
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), document)
