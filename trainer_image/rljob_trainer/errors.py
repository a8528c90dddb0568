"""Errors that the trainer tells apart by what a restart could do about them."""

from __future__ import annotations


class Mistake(Exception):  # noqa: N818 - a user's mistake, told as a sentence, not a fault of the program
    """The job itself is wrong: the message names the field, the value and what to do. A restart would not help."""
