"""`--output`, the same for all commands that print what a program might read."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

UNBROKEN = 10_000
"""Characters of a line that goes to a program or a file: who searches for a sentence finds it in one piece."""


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")]


def console() -> Console:
    """For screens: as wide as the terminal, and unbroken where there is none, but for one told by COLUMNS."""
    terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console() if terminal else Console(width=UNBROKEN)
