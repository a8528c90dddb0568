"""Errors that end a command with sentences instead of a traceback. `__main__.main` prints them."""

from __future__ import annotations

from dataclasses import dataclass


class UserMistake(Exception):  # noqa: N818 - a user's mistake, told as a sentence, not a fault of the program
    """Something that the user can mend: a sentence that names it, and the next step."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a job file."""

    file: str
    line: int
    """From 1; 0 when the mistake has no place in the file."""
    column: int
    """From 1; 0 when the mistake has no place in the file."""
    path: str
    """Field, for example `spec.rollout.replicas`; empty when the file as a whole is meant."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        field = f"{self.path}: " if self.path else ""
        return f"{place}: {field}{self.message}"


class InvalidJob(UserMistake):
    """A job file that cannot be read as an RLJob, with every mistake in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
