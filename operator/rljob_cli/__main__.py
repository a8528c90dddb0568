"""`rljob COMMAND …`: the table of commands, and how a mistake ends.

Only the module of the command that was asked for is imported: help stays fast, and no command pays for another's
libraries. A command is a function with typer's annotations, or a `typer.Typer` of its own when it has subcommands.
"""

from __future__ import annotations

import sys
from importlib import import_module
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


COMMANDS = {
    "validate": Command(
        "validate:validate", "Check job files: every mistake with its line, before anything starts."
    ),
    "explain": Command("explain:explain", "Explain a field: type, default, bounds, children."),
    "schema": Command("schema:schema", "Print the JSON schema of RLJob, for editors."),
    "run": Command("run:run", "Run a job on this machine; Ctrl-C saves and stops, the same command goes on."),
    "status": Command("status:status", "Show how a job is doing."),
    "logs": Command("logs:logs", "Show what a job's processes said."),
    "samples": Command("samples:samples", "Show the prompts, completions and rewards of a step."),
    "checkpoint": Command("checkpoint:app", "List, verify and export checkpoints."),
}


def command_line(arguments: list[str]) -> typer.Typer:
    """The application for `arguments`: the named command for real, the others as their line of help."""
    app = typer.Typer(
        name="rljob",
        help="RL post-training jobs from one YAML file.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_top)
    for name, command in COMMANDS.items():
        if arguments[:1] == [name]:
            _add(app, name, command)
        else:
            app.command(name, help=command.help)(_not_asked_for)
    return app


def main() -> NoReturn:
    """Entry point of the console scripts."""
    try:
        command_line(sys.argv[1:])()
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(EXIT_MISTAKE)
    sys.exit(0)


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
