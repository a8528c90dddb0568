"""A job's status as far as this program knows its words, and a sentence on those that it does not. Pure."""

from __future__ import annotations

from typing import NamedTuple, cast

from pydantic import ValidationError

from rljob_api import known as api
from rljob_api.base import Manifest
from rljob_api.status import Phase, Status

from ..errors import UserMistake


class Known(NamedTuple):
    """What could be read of a status."""

    status: Status
    caveat: str
    """What could not, and what to do; empty if nothing."""


def known(job: Manifest) -> Known:
    """Raises `UserMistake` for a status of which nothing can be read."""
    try:
        status, unknown = api.known(job.get("status") or {})
    except ValidationError as error:
        raise UserMistake(
            "The operator is newer than this program, which cannot read its status: update `rljob` here."
        ) from error
    return Known(_with_phase(status, job), _caveat(unknown))


def _with_phase(status: Status, job: Manifest) -> Status:
    """With the word that stands there, known or not: a phase is only shown."""
    word = (job.get("status") or {}).get("phase", status.phase)
    return status if word == status.phase else status.model_copy(update={"phase": cast("Phase", str(word))})


def _caveat(unknown: tuple[str, ...]) -> str:
    if not unknown:
        return ""
    words = ", ".join(unknown)
    return f"The operator is newer than this program, which does not know its words ({words}): update `rljob` here."
