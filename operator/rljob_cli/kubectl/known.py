"""A job's status as far as this program knows its words: the operator that wrote it may be newer. Pure."""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rljob_api.base import Manifest
from rljob_api.status import Phase, Status

from ..errors import UserMistake

ROUNDS = 100
"""Things that may be unknown. Each is taken out; a part that then lacks something goes as a whole."""


class Known(NamedTuple):
    """What could be read of a status."""

    status: Status
    caveat: str
    """What could not, and what to do; empty if nothing."""


def known(job: Manifest) -> Known:
    """Raises `UserMistake` for a status of which nothing can be read."""
    data, unknown = copy.deepcopy(job.get("status") or {}), list[str]()
    for _ in range(ROUNDS):
        try:
            return Known(_with_phase(Status.model_validate(data), job), _caveat(unknown))
        except ValidationError as error:
            mistake = error.errors()[-1]
        if mistake["type"] == "missing":
            _remove(data, mistake["loc"][:-1])
        else:
            unknown.append(_named(mistake))
            _remove(data, mistake["loc"])
    raise UserMistake(
        "The operator is newer than this program, which cannot read its status: update `rljob` here."
    )


def _with_phase(status: Status, job: Manifest) -> Status:
    """With the word that stands there, known or not: a phase is only shown."""
    word = (job.get("status") or {}).get("phase", status.phase)
    return status if word == status.phase else status.model_copy(update={"phase": cast("Phase", str(word))})


def _named(mistake: ErrorDetails) -> str:
    return f"{'.'.join(map(str, mistake['loc']))} {mistake['input']}"


def _caveat(unknown: list[str]) -> str:
    if not unknown:
        return ""
    words = ", ".join(reversed(unknown))
    return f"The operator is newer than this program, which does not know its words ({words}): update `rljob` here."


def _remove(data: Manifest, path: tuple[int | str, ...]) -> None:
    *parents, last = path
    part: Manifest = data
    for key in parents:
        part = part[cast("str", key)]
    del part[cast("str", last)]
