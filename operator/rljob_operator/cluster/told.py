"""What rank 0 tells, read with care: any image may run there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from rljob_api.progress import LastWords, Progress

from .. import times

MOST = 2.0**53
"""No count and no time comes near it, and beyond it a number in JSON is not exact."""
LONGEST_PATH = 4096


def read_progress(answer: bytes) -> Progress | None:
    """None if somebody else answered, for that port may belong to another program; or if it is nonsense."""
    try:
        told = Progress.model_validate_json(answer)
    except ValidationError:
        return None
    return told if _sensible(told) else None


def read_last_words(message: str) -> tuple[LastWords | None, str]:
    """The words, and the text beside them: one of the two is empty."""
    try:
        words = LastWords.model_validate_json(message)
    except ValidationError:  # not ours: a library's own words are shown as they are
        return None, message.strip()
    if words.progress is not None and not _sensible(words.progress):
        return None, message.strip()
    return words, ""


def _sensible(told: Progress) -> bool:
    """Whether a status can say it: numbers that the API server keeps, paths of a file system, times that are some."""
    facts = told.checkpoint
    fits = facts is None or max(len(facts.path), len(facts.layout)) <= LONGEST_PATH
    whole = all(abs(number) < MOST for number in _numbers(told))
    return fits and whole and all(map(_is_time, _times(told)))


def _numbers(told: Progress) -> Iterator[float]:
    """Without metrics, which are kept as text and may be anything."""
    parts = (told, told.checkpoint, told.resumed, told.spent)
    for part in parts:
        values = vars(part).values() if part is not None else ()
        yield from (value for value in values if isinstance(value, int | float))


def _times(told: Progress) -> Iterator[str]:
    yield from (replica.since for replica in told.broken_replicas)
    if told.checkpoint is not None:
        yield told.checkpoint.time


def _is_time(text: str) -> bool:
    try:
        times.to_seconds(text)
    except (ValueError, OverflowError):
        return False
    return True
