"""What of a broken document is still sound: its other mistakes can be told before the first are mended.

`load.py` takes values out that do not fit and looks again. Defaults stand in for them, so whatever depends on such a
value is in doubt, and nothing is said about it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from rljob_api.base import API_VERSION, KIND, Manifest, without_nulls
from rljob_api.rule import Rule

from .document import FieldPath

STAND_IN: Manifest = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "job"},
    "spec": {
        "model": {"source": "builtin:addition"},
        "data": {"train": {"source": "builtin:addition"}},
        "reward": {},
    },
}
"""What a job cannot be without; the rest has defaults."""


Node = dict[str | int, JsonValue]
"""A mapping, or a list that is taken for a mapping from positions."""


@dataclass(frozen=True)
class Sound:
    """The part of a document that fits, as far as is known."""

    data: Manifest
    doubts: frozenset[FieldPath] = frozenset()
    """What was taken out, without the positions in lists: one item less moves the others."""

    def without(self, misfits: Iterable[FieldPath], also_doubted: Iterable[FieldPath] = ()) -> Sound:
        """This, what stands at `misfits` (or else its nearest parent) taken out. Nothing of `self` is changed."""
        data = _filled(json.loads(json.dumps(without_nulls(self.data))), STAND_IN)
        removed = {_there(data, path) for path in misfits}
        for path in sorted(
            removed, key=_order, reverse=True
        ):  # a list from its end: positions stay what they are
            _remove(data, path)
        doubts = {_names(path) for path in [*removed, *also_doubted]}
        return Sound(_filled(data, STAND_IN), self.doubts | doubts)

    def doubted(self, path: FieldPath) -> bool:
        """Whether a value at, above or below `path` was taken out."""
        mine = _names(path)
        return any(mine[: len(doubt)] == doubt[: len(mine)] for doubt in self.doubts)

    def decides(self, rule: Rule) -> bool:
        """Whether all that the rule looks at is as the user wrote it."""
        read, asked = (
            [("spec", *field.split(".")) for field in each] for each in (rule.reads, rule.asks_for)
        )
        return not any(map(self.doubted, read)) and not any(map(self._gone, asked))

    def _gone(self, path: FieldPath) -> bool:
        """Whether the value at `path` was taken out, or one that it was in."""
        return any(path[: len(doubt)] == doubt for doubt in self.doubts)


def _filled(data: Manifest, stand_in: Manifest) -> Manifest:
    """`data` with what is absent from `stand_in`."""
    for key, value in stand_in.items():
        if key not in data:
            data[key] = copy.deepcopy(value)
        elif isinstance(value, dict) and isinstance(data[key], dict):
            _filled(data[key], value)
    return data


def _there(data: Manifest, path: FieldPath) -> FieldPath:
    """`path`, or its nearest parent that is there."""
    holder: JsonValue = data
    for depth, part in enumerate(path):
        match holder, part:
            case dict(), str() if part in holder:
                holder = holder[part]
            case list(), int() if part < len(holder):
                holder = holder[part]
            case _:
                return path[:depth]
    return path


def _remove(data: Manifest, path: FieldPath) -> None:
    *parents, last = path
    holder = cast("Node", data)
    for part in parents:
        holder = cast("Node", holder[part])
    del holder[last]


def _names(path: FieldPath) -> FieldPath:
    return tuple(part for part in path if isinstance(part, str))


def _order(path: FieldPath) -> list[tuple[int, str]]:
    """Positions as numbers, names as texts, and both comparable."""
    return [(part, "") if isinstance(part, int) else (-1, part) for part in path]
