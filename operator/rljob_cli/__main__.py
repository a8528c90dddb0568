"""`rljob COMMAND …`: the table of commands, and how a mistake ends.

Only the module of the command that was asked for is imported: help stays fast, and no command pays for another's
libraries. A command is a function with typer's annotations, or a `typer.Typer` of its own when it has subcommands.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer

from .errors import UserMistake

EXIT_MISTAKE = 2
"""As in `rljob_api.progress`, which is too heavy to import for `--help`; a test holds the two together."""


class Command(NamedTuple):
    """Where a command lives, and its line in `rljob --help`."""

    target: str
    """`module:attribute` inside this package."""
    help: str


FILES = {
    "validate": Command(
        "validate:validate", "Check job files: every mistake with its line, before anything starts."
    ),
    "explain": Command("explain:explain", "Explain a field: type, default, bounds, children."),
    "schema": Command("schema:schema", "Print the JSON schema of RLJob, for editors."),
    "render": Command("render:render", "Print what the operator would create for a job."),
}
ON_THIS_MACHINE = FILES | {
    "run": Command("run:run", "Run a job on this machine; Ctrl-C saves and stops, the same command goes on."),
    "status": Command("status:status", "Show how a job is doing."),
    "logs": Command("logs:logs", "Show what a job's processes said."),
    "samples": Command("samples:samples", "Show the prompts, completions and rewards of a step."),
    "replay": Command("replay:replay", "Run a step again, and show the first number that differs."),
    "checkpoint": Command("checkpoint:app", "List, verify and export checkpoints."),
}
IN_A_CLUSTER = FILES | {
    "submit": Command("kubectl.submit:submit", "Create a job; with --wait stay until it is over."),
    "status": Command("kubectl.status:status", "Show how a job is doing."),
    "wait": Command("kubectl.wait:wait", "Wait until a job is Complete (exit code 0) or Failed (1)."),
    "logs": Command("kubectl.logs:logs", "Show what all pods of a job said."),
    "checkpoints": Command("kubectl.checkpoints:checkpoints", "Show what a restart would go on from."),
    "events": Command("kubectl.events:events", "Show what happened to a job and its pods."),
    "suspend": Command("kubectl.suspend:suspend", "Save, stop the pods and keep the storage."),
    "resume": Command("kubectl.suspend:resume", "Go on from the newest verified checkpoint."),
    "delete": Command("kubectl.delete:delete", "Delete a job; its checkpoints stay."),
}
PROGRAMS = {"rljob": ON_THIS_MACHINE, "kubectl-rljob": IN_A_CLUSTER}
"""One program under two names: `kubectl rljob` means jobs in a cluster."""


def command_line(arguments: list[str], program: str = "rljob") -> typer.Typer:
    """The application for `arguments`: the named command for real, the others as their line of help."""
    app = typer.Typer(
        name=program,
        help="RL post-training jobs from one YAML file.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    for name, command in PROGRAMS[program].items():
        if arguments[:1] == [name]:
            _add(app, name, command)
        else:
            app.command(name, help=command.help)(_not_asked_for)
    return app


def main() -> NoReturn:
    """Entry point of the console scripts."""
    name = Path(sys.argv[0]).name
    program = name if name in PROGRAMS else "rljob"
    _print_anything()
    try:
        command_line(words_to_complete(program, os.environ) or sys.argv[1:], program)()
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(EXIT_MISTAKE)
    sys.exit(0)


def _print_anything() -> None:
    """A log may hold what the terminal's encoding does not: that becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def words_to_complete(program: str, environment: Mapping[str, str]) -> list[str]:
    """What stands behind `program` on the line that a shell wants completed; empty when nothing is to be completed."""
    if f"_{program.replace('-', '_').upper()}_COMPLETE" not in environment:
        return []
    line = environment.get("_TYPER_COMPLETE_ARGS") or environment.get(
        "COMP_WORDS", ""
    )  # zsh and fish, or bash
    return line.split()[1:]


def _add(app: typer.Typer, name: str, command: Command) -> None:
    module, attribute = command.target.split(":")
    target = getattr(import_module(f"{__package__}.{module}"), attribute)
    if isinstance(target, typer.Typer):
        app.add_typer(target, name=name, help=command.help)
    else:
        app.command(name)(target)


def _not_asked_for() -> NoReturn:
    raise AssertionError("only the command that was asked for is ever called")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("rljob"))
        raise typer.Exit


def _top(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """RL post-training jobs from one YAML file."""


if __name__ == "__main__":
    main()
