"""`kubectl_complete-rljob WORD…`: what `kubectl rljob WORD…<TAB>` could go on with.

kubectl looks for a program of this name on the PATH and runs it with the words behind `kubectl rljob`, the last of
which is to be completed. It wants a completion a line, a description behind a tabulator, and at the end what the shell
shall do beside (https://pkg.go.dev/k8s.io/kubectl/pkg/cmd/plugin). Typer answers fish in the same form.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress

from .__main__ import command_line

PROGRAM = "kubectl-rljob"
TAKE_FILES = {"validate", "render", "submit"}
NO_FILES, FILES = ":4", ":0"
"""Cobra's directives: nothing beside, and files where there is no other completion."""


def main() -> None:
    """Entry point of the console script."""
    *before, last = sys.argv[1:] or [""]
    os.environ |= {
        "_KUBECTL_RLJOB_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"{shlex.join([PROGRAM, *before])} {last and shlex.quote(last)}",
    }
    with suppress(SystemExit):  # how typer ends a completion
        command_line(before, PROGRAM)(prog_name=PROGRAM)
    print(FILES if before[:1] and before[0] in TAKE_FILES else NO_FILES)
