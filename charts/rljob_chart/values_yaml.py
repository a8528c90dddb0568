"""`values.yaml`: every value with its default, under a comment that says what it changes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from .fields import Value, values

HEADER = "# Made from charts/rljob_chart/values.py by `make crds`. Change that."
WIDTH = 110


def values_yaml() -> str:
    return "\n".join([HEADER, *(line for value in values() for line in ("", *_lines(value, "")))]) + "\n"


def _lines(value: Value, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(value.text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    if not value.below:
        yield from _entry(value.name, value.default, indent)
        return
    yield f"{indent}{value.name}:"
    for child in value.below:
        yield from _lines(child, f"{indent}  ")


def _entry(name: str, default: Any, indent: str) -> Iterator[str]:
    """Maps a line per key, all else on one line."""
    if not (isinstance(default, dict) and default):
        yield f"{indent}{name}: {json.dumps(default, ensure_ascii=False)}"
        return
    yield f"{indent}{name}:"
    for key, value in default.items():
        yield from _entry(key, value, f"{indent}  ")
