"""The commands as a user starts them: help, explain, schema, exit codes, and what they do not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rljob_api.progress import EXIT_MISTAKE as EXIT_MISTAKE_OF_PODS
from rljob_cli.__main__ import EXIT_MISTAKE, ON_THIS_MACHINE, command_line

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "vllm", "transformers", "numpy", "kubernetes", "kopf", "aiohttp", "datasets"}


def rljob(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(list(arguments)), list(arguments))


def imported_by(*arguments: str) -> set[str]:
    """The top-level modules that a command imports, in a process of its own."""
    program = (
        "import atexit, sys; from rljob_cli.__main__ import main;"
        "atexit.register(lambda: print('|', *{name.partition('.')[0] for name in sys.modules}));"
        "main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return set(ended.stdout.rpartition("|")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "validate examples/addition-cpu.yaml",
        "explain spec.rollout",
        "samples --help",
        "checkpoint --help",
    ],
)
def test_a_light_command_imports_nothing_heavy(arguments: str) -> None:
    modules = imported_by(*arguments.split())
    assert "typer" in modules
    assert not modules & HEAVY


def test_help_does_not_even_import_the_api() -> None:
    assert not imported_by("--help") & {"pydantic", "ruamel", "rljob_api"}


def test_help_names_every_command() -> None:
    shown = rljob("--help").stdout
    assert all(name in shown for name in ON_THIS_MACHINE)


def test_a_mistake_of_the_user_ends_with_a_sentence_and_without_a_traceback() -> None:
    program = (
        "import rljob_cli.validate as v; from rljob_cli.errors import UserMistake; import sys\n"
        "def broken(*_): raise UserMistake('Do this instead.')\n"
        "v.problems_of = broken; sys.argv = ['rljob', 'validate', 'x']\n"
        "from rljob_cli.__main__ import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (EXIT_MISTAKE, "Do this instead.\n", "")
    assert EXIT_MISTAKE == EXIT_MISTAKE_OF_PODS


def test_explain_tells_type_default_meaning_and_choices() -> None:
    assert rljob("explain", "spec.weightSync.transport").stdout.splitlines()[:4] == [
        'spec.weightSync.transport: one of auto, nccl, gloo, disk, default "auto"',
        "",
        "  How they travel.",
        "  `auto`: `nccl` on GPUs, `gloo` on CPU; the status says which.",
    ]


def test_explain_lists_the_fields_of_a_section_and_of_list_items() -> None:
    assert re.search(
        r"^  savePeriod +Save after every so many steps", rljob("explain", "spec.checkpoint").stdout, re.M
    )
    assert "  value      Its value." in rljob("explain", "spec.trainer.env").stdout
    assert rljob("explain", "spec.trainer.env[0].name").stdout.startswith(
        "spec.trainer.env[].name: a text like"
    )


@pytest.mark.parametrize(
    ("path", "child", "end"),
    [
        ("spec.model", "source", "or `builtin:addition-moe`, the same with experts. (required)"),
        ("spec", "activeDeadlineSeconds", "job fails. The clock starts anew on a resume."),
        ("spec", "backend", "block enables it, else `dtensor`; the status says which."),
        ("spec.weightSync", "transport", 'How they travel. (default "auto")'),
    ],
)
def test_a_child_is_told_of_in_whole_sentences(path: str, child: str, end: str) -> None:
    assert re.search(rf"^  {child} .*{re.escape(end)}$", rljob("explain", path).stdout, re.M)


def test_explain_answers_programs_too() -> None:
    answer = json.loads(rljob("explain", "spec.rollout.replicas", "-o", "json").stdout)
    assert answer["schema"] == {"default": 1, "minimum": 1, "maximum": 4096, "type": "integer"}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("spec.chekpoint", "no field `chekpoint` in `spec`. Did you mean `checkpoint`?"),
        ("spec.weightSync.x", "no field `x` in `spec.weightSync`. There is: transport, timeoutSeconds."),
        ("spec.suspend.x", "no field `x` in `spec.suspend`."),
        ("metadata", "no field `metadata`: a path starts with `spec` or `status`."),
    ],
)
def test_explain_says_what_was_meant(path: str, told: str) -> None:
    ended = rljob("explain", path)
    assert (ended.exit_code, ended.stderr) == (1, f"{told}\n")


def test_schema_is_the_committed_one() -> None:
    assert rljob("schema").stdout == (ROOT / "crds/rljob.schema.json").read_text()
