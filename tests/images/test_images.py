"""The real images, run the way pods run them."""

from __future__ import annotations

import pytest

from kube.processes import Failure

from .build import OPERATOR, TRAINER
from .conftest import Pod

UNCOMPILED = """
import importlib.util, sys, sysconfig
from pathlib import Path

UNCHECKED_HASH = (1).to_bytes(4, "little")
for source in Path(sysconfig.get_path("purelib")).glob("*/**/*.py"):
    compiled = Path(importlib.util.cache_from_source(source))
    if source.parts[6] in sys.argv[1:] and not (compiled.exists() and compiled.read_bytes()[4:8] == UNCHECKED_HASH):
        print(source)
"""


@pytest.mark.parametrize("image", [OPERATOR.name, TRAINER.name])
def test_it_runs_as_an_unprivileged_user_who_can_write_nothing_but_tmp(pod: Pod, image: str) -> None:
    assert pod.run(image, "id", "--user").strip() == "65532"
    pod.run(image, "touch", "/tmp/file")
    with pytest.raises(Failure, match="Read-only file system"):
        pod.run(image, "touch", "/opt/rljob/file")


def test_the_operator_starts(pod: Pod) -> None:
    assert "usage" in pod.run(OPERATOR.name, "python", "-m", "rljob_operator", "--help").lower()
    assert pod.run(OPERATOR.name, "rljob", "--version").strip() == "0.1.0"


def test_the_operator_has_nothing_of_the_trainer(pod: Pod) -> None:
    with pytest.raises(Failure, match="No module named 'rljob_trainer'"):
        pod.run(OPERATOR.name, "python", "-c", "import rljob_trainer")


def test_the_trainer_says_what_it_can_run(pod: Pod) -> None:
    assert "train | rollout" in pod.run(TRAINER.name, "python", "-m", "rljob_trainer", "--help")


def test_the_trainer_has_torch_megatron_and_vllm_with_our_plugin(pod: Pod) -> None:
    found = pod.run(
        TRAINER.name,
        "python",
        "-c",
        "import torch, megatron.core, vllm.plugins\n"
        "print(*vllm.plugins.load_plugins_by_group('vllm.general_plugins'), sep='\\n')",
    )
    assert "rljob" in found.splitlines()


def test_the_trainer_has_the_command_line_for_what_lies_on_the_volume(pod: Pod) -> None:
    with pytest.raises(Failure, match="nothing was trained yet in /tmp"):
        pod.run(TRAINER.name, "rljob", "checkpoint", "ls", "/tmp")
    with pytest.raises(Failure, match="nothing was trained yet in /tmp"):
        pod.run(TRAINER.name, "rljob", "samples", "/tmp")
    pod.run(TRAINER.name, "tar", "--version")  # `kubectl cp` calls it


def test_the_trainer_can_compile_kernels(pod: Pod) -> None:
    program = "import torch; print(torch.compile(lambda x: x.sin() + 1)(torch.zeros(3)).tolist())"
    assert "[1.0, 1.0, 1.0]" in pod.run(TRAINER.name, "python", "-c", program)


@pytest.mark.parametrize(
    ("image", "packages"),
    [
        (OPERATOR.name, ["rljob_api", "rljob_operator", "kopf"]),
        (TRAINER.name, ["rljob_api", "rljob_cli", "rljob_operator", "rljob_trainer", "vllm"]),
    ],
)
def test_all_bytecode_is_there_and_is_not_checked_against_times(
    pod: Pod, image: str, packages: list[str]
) -> None:
    assert pod.run(image, "python", "-c", UNCOMPILED, *packages) == ""
