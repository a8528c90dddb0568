"""`--output`, the same for all commands that print what a program might read."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console, RenderableType

UNBROKEN = 10_000
"""Characters of a line that goes to a program or a file: who searches for a sentence finds it in one piece."""


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")]


def show(what: RenderableType) -> None:
    """On a screen as wide as the terminal; where there is none, but for one told by COLUMNS, in unbroken lines that end
    where their text does."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        Console().print(what)
        return
    unbroken = Console(width=UNBROKEN)
    with unbroken.capture() as shown:
        unbroken.print(what)
    print("\n".join(line.rstrip() for line in shown.get().splitlines()))
