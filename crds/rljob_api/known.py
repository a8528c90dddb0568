"""A job's status as far as this program knows its words: the operator that wrote it may be newer. Pure."""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .base import Manifest
from .status import ConditionType, Status

ROUNDS = 100
"""Things that may be unknown. Each is taken out; a part that then lacks something goes as a whole."""


class Known(NamedTuple):
    """What could be read of a status."""

    status: Status
    unknown: tuple[str, ...]
    """What could not: the place and the word of each, in the order of the status."""


def known(told: Manifest) -> Known:
    """Raises `pydantic.ValidationError` for a status of which nothing can be read."""
    data, unknown = copy.deepcopy(told), list[str]()
    for _ in range(ROUNDS):
        try:
            return Known(Status.model_validate(data), tuple(reversed(unknown)))
        except ValidationError as error:
            mistake = error.errors()[-1]
        if mistake["type"] == "missing":
            _remove(data, mistake["loc"][:-1])
        else:
            unknown.append(_named(mistake))
            _remove(data, mistake["loc"])
    return Known(Status.model_validate(data), tuple(reversed(unknown)))


def with_unknown(new: Manifest, old: Manifest) -> Manifest:
    """`new`, which is about to be written over `old`, with what of that is not known here and may not be lost:
    conditions of other types, and an attempt of which nothing could be read."""
    conditions = [*new["conditions"], *filter(_is_unknown, old.get("conditions") or [])]
    attempt = {"attempt": old["attempt"]} if old.get("attempt") else {}
    return {**attempt, **new, "conditions": conditions}


def _is_unknown(condition: Manifest) -> bool:
    return condition["type"] not in set(ConditionType)


def _named(mistake: ErrorDetails) -> str:
    return f"{'.'.join(map(str, mistake['loc']))} {mistake['input']}"


def _remove(data: Manifest, path: tuple[int | str, ...]) -> None:
    *parents, last = path
    part: Manifest = data
    for key in parents:
        part = part[cast("str", key)]
    del part[cast("str", last)]
