"""The parent of a pod's ranks, before they exist."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rljob_api.progress import EXIT_COMPLETE, EXIT_FAILED, EXIT_MISTAKE, EXIT_PREEMPTED
from rljob_trainer.launch import EXIT_FOLLOWED, Gang, reaped
from trainer import hangs
from trainer.checkpoints import a_run, in_child
from trainer.hangs import launched

IMPORTS_FOR_LONG = """
import time
from rljob_trainer import launch
def takes_long(run):
    print("importing", flush=True)
    time.sleep(60)
launch._import_once = takes_long
launch.launch(None, 0)
"""


def test_who_is_told_to_go_while_it_imports_leaves_at_once_and_says_so() -> None:
    """As a pod's first process it would not hear SIGTERM without a handler of its own."""
    with subprocess.Popen([sys.executable, "-c", IMPORTS_FOR_LONG], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"importing\n"
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(120) == EXIT_PREEMPTED


def test_orphans_that_come_to_a_pods_first_process_are_no_ranks(tmp_path: Path) -> None:
    ((code, words),) = launched(hangs.leaves_an_orphan, tmp_path, {})
    assert code == EXIT_COMPLETE, words.message


KILLED = 137


@pytest.mark.parametrize(
    ("codes", "speaker"),
    [
        ({1: EXIT_COMPLETE, 0: EXIT_COMPLETE}, 0),
        ({1: EXIT_PREEMPTED, 0: EXIT_PREEMPTED}, 0),
        ({1: EXIT_FOLLOWED, 0: EXIT_FAILED}, 0),
        ({1: KILLED, 0: EXIT_FAILED}, 1),
        ({0: EXIT_FAILED, 1: EXIT_PREEMPTED}, 1),
        ({1: EXIT_PREEMPTED, 0: EXIT_FOLLOWED}, 1),
        ({1: EXIT_PREEMPTED, 0: EXIT_MISTAKE}, 0),
        ({1: EXIT_PREEMPTED, 0: KILLED}, 0),
    ],
)
def test_who_speaks_for_the_pod(codes: dict[int, int], speaker: int) -> None:
    """A rank that is told to go while ranks meet cannot tell the others, whose meeting then fails: no failure."""
    assert Gang({}, codes).speaker == speaker


def test_who_was_killed_is_named_before_those_that_failed_for_it_in_the_same_moment() -> None:
    """The kernel would name them in the order in which they were made."""

    def look() -> None:
        made = [made_to(lambda: os._exit(EXIT_FAILED)), made_to(lambda: os.kill(os.getpid(), signal.SIGKILL))]
        for pid in made:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert reaped() == [(made[1], -signal.SIGKILL), (made[0], EXIT_FAILED)]
        assert reaped() == []

    assert in_child(look) == 0


def made_to(end: Callable[[], None]) -> int:
    """The process id of a child that does so at once."""
    if pid := os.fork():
        return pid
    end()
    os._exit(EXIT_COMPLETE)


NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
IMPORTS_WITH_A_GPU = """
import sys
import torch
from rljob_api.run import Run

def asked_the_driver():
    raise AssertionError("ranks that are forked now cannot use CUDA")

torch._C._cuda_getDeviceCount = asked_the_driver
torch.cuda._device_count_nvml = lambda: 1
from rljob_trainer import launch
launch._import_once(Run.model_validate_json(sys.stdin.read()))
assert torch.cuda.is_available()
assert f"rljob_trainer.backend.{sys.argv[1]}.backend" in sys.modules
"""


@pytest.mark.parametrize("backend", ["dtensor", "megatron"])
def test_what_the_launcher_imports_does_not_ask_the_driver_for_gpus(backend: str, tmp_path: Path) -> None:
    """Torch here is built for CUDA; its two ways to count GPUs are stood in for, as there is none."""
    environment = {name: value for name, value in os.environ.items() if name != NVML_CHECK}
    run = a_run(tmp_path, backend=backend).model_dump_json(by_alias=True)
    command = [sys.executable, "-c", IMPORTS_WITH_A_GPU, backend]
    ended = subprocess.run(
        command, env=environment, input=run, stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
