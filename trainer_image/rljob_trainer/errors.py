"""Errors that the trainer tells apart by what a restart could do about them."""

from __future__ import annotations


class Mistake(Exception):  # noqa: N818 - a user's mistake, told as a sentence, not a fault of the program
    """The job itself is wrong: the message names the field, the value and what to do. A restart would not help."""


class UnreachableError(Exception):
    """What the job needs from outside, such as a model of a hub, cannot be had now; a restart may find it there."""


class Unmet(Exception):  # noqa: N818 - nothing is wrong: what was asked for cannot be had as things are
    """A resume cannot be as exact as `spec.resume.exactness` asks, or not load what the spec insists on, which an edit
    may have brought about and another can undo; the message says why and what can be done."""
