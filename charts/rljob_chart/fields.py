"""The values as a tree of fields, read from the model: what `values.yaml` and the README's table are made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from rljob_api.base import Spec

from .values import Values


@dataclass(frozen=True)
class Value:
    """One value, or a section of them."""

    path: str
    """For example `metrics.rules.enabled`."""
    text: str
    default: Any
    below: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]


def values() -> tuple[Value, ...]:
    """All values, sections first seen first."""
    return _below(Values, "")


def leaves(found: tuple[Value, ...]) -> Iterator[Value]:
    """Those that are no sections."""
    for value in found:
        yield from leaves(value.below) if value.below else [value]


def _below(section: type[Spec], prefix: str) -> tuple[Value, ...]:
    return tuple(_value(info, prefix) for info in section.model_fields.values())


def _value(info: FieldInfo, prefix: str) -> Value:
    path, kind = f"{prefix}{info.alias}", info.annotation
    if inspect.isclass(kind) and issubclass(kind, Spec):
        return Value(path, info.description or inspect.getdoc(kind) or "", None, _below(kind, f"{path}."))
    return Value(path, info.description or "", info.get_default())
