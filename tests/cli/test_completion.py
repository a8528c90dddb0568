"""Completion as shells ask for it: the words come in variables, the answers go to standard output."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rljob_cli.__main__ import words_to_complete

RLJOB = Path(sys.executable).with_name("rljob")


def completed(line: str, where: Path, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    variables = {
        "_RLJOB_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line if shell != "bash" else "",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ended = subprocess.run(
        [RLJOB],
        env=os.environ | variables,
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in ("sums", "stories"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "job.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("rljob sta", ["status"]),
        ("rljob checkpoint ver", ["verify"]),
        ("rljob samples --fi", ["--first"]),
        ("rljob samples --first wo", ["worst"]),
        ("rljob status st", ["stories"]),
        ("rljob checkpoint ls su", ["sums"]),
        ("rljob explain spec.rollout.rep", ["spec.rollout.replicas"]),
        ("rljob explain spec.nothing.", []),
    ],
)
def test_commands_options_jobs_and_fields_are_completed(here: Path, line: str, answers: list[str]) -> None:
    assert completed(line, here) == answers


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_too(here: Path, shell: str) -> None:
    assert "--first" in "".join(completed("rljob samples --fi", here, shell))


def test_bash_itself_completes_with_the_script_that_is_shown(here: Path) -> None:
    program = (
        'eval "$(rljob --show-completion)"; COMP_WORDS=(rljob status su) COMP_CWORD=2;'
        " _rljob_completion rljob; echo ${COMPREPLY[@]}"
    )
    path = f"{RLJOB.parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", program],
        env=os.environ | {"PATH": path},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (ended.stdout, ended.stderr) == ("sums\n", "")


def test_fish_itself_completes_with_the_script_that_is_shown(here: Path) -> None:
    program = 'rljob --show-completion | source; complete --do-complete "rljob status su"'
    ended = subprocess.run(
        [shell_program("fish"), "--no-config", "-c", program],
        env=where_rljob_is(here),
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (ended.stdout.split(), ended.stderr) == (["sums"], "")


def test_zsh_itself_completes_with_the_script_that_is_shown(here: Path) -> None:
    """At a terminal, by the tabulator: zsh completes nowhere else."""
    zsh, terminal = shell_program("zsh"), pty.openpty()
    process = subprocess.Popen(
        [zsh, "-f", "-i"],
        env=where_rljob_is(here),
        cwd=here,
        stdin=terminal[1],
        stdout=terminal[1],
        stderr=terminal[1],
    )
    try:
        os.write(terminal[0], b'PS1="ready> "; autoload -Uz compinit; compinit -D -u\n')
        os.write(terminal[0], b'eval "$(rljob --show-completion)"; echo prep""ared\n')
        read_until(terminal[0], "prepared")
        os.write(terminal[0], b"rljob status su\t")
        read_until(terminal[0], "sums")
    finally:
        process.kill()
        process.wait()
        for end in terminal:
            os.close(end)


def shell_program(name: str) -> str:
    """Skips the test where it is not installed."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def where_rljob_is(home: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{RLJOB.parent}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"}


def read_until(terminal: int, words: str) -> None:
    told, deadline = "", time.monotonic() + 60
    while words not in told:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], told
        told += os.read(terminal, 4096).decode(errors="replace")


def test_both_programs_read_their_own_variable() -> None:
    line = {"COMP_WORDS": "kubectl-rljob\nwait\n"}
    assert words_to_complete("kubectl-rljob", line | {"_KUBECTL_RLJOB_COMPLETE": "complete_bash"}) == ["wait"]
    assert words_to_complete("rljob", line | {"_KUBECTL_RLJOB_COMPLETE": "complete_bash"}) == []
