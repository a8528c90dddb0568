"""The chart, rendered by the real helm."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kube.api import Manifest
from kube.programs import programs

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "rljob-operator"
VARIANTS = sorted((CHART / "ci").glob("*-values.yaml"))
DEFAULT = CHART / "ci" / "default-values.yaml"
RELEASE, NAMESPACE = "rl", "rl-system"


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """helm said no; the message is what it said."""


def helm(*arguments: str | Path, program: str = "helm") -> str:
    """What helm prints. `program` is `helm3` for the oldest that the chart is for.

    Raises `Refused`, and `Unavailable` where helm cannot be had.
    """
    command: list[str | Path] = [programs(program)[program], *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if ended.returncode:
        raise Refused(ended.stderr)
    return ended.stdout


def rendered(
    values: Path = DEFAULT, *flags: str, release: str = RELEASE, namespace: str = NAMESPACE
) -> list[Manifest]:
    """Everything that the chart makes of `values`."""
    return list(_rendered(values, flags, release, namespace))


@cache
def _rendered(values: Path, flags: tuple[str, ...], release: str, namespace: str) -> tuple[Manifest, ...]:
    text = helm("template", release, CHART, "--namespace", namespace, "--values", values, *flags)
    return tuple(each for each in documents(text) if each)


class Loader(yaml.CSafeLoader):  # type: ignore[misc]  # it has no types
    """The parser in C, as the one in Python takes two seconds for the CRD; with the numbers of YAML 1.2."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def documents(text: str) -> list[Manifest]:
    return list(yaml.load_all(text, Loader=Loader))


def of_kind(kind: str, objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["kind"] == kind]


def the(kind: str, objects: list[Manifest]) -> Manifest:
    """The only one of its kind."""
    (only,) = of_kind(kind, objects)
    return only


def pod(objects: list[Manifest]) -> Any:
    """The spec of the operator's pods."""
    return the("Deployment", objects)["spec"]["template"]["spec"]
