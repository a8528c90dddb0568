"""Rules that look at more than one field: each written once, as a Python predicate and as CEL.

`broken_rules` serves `rljob validate` and the operator; `crd.py` puts the same table into the CRD, so that the API
server refuses the same mistakes at apply. `tests/api` tries each rule in both places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import JobSpec


@dataclass(frozen=True)
class Rule:
    """One rule at `spec`."""

    path: str
    """Field that is to be changed, relative to `spec`."""
    cel: str
    """CEL expression over `self` = spec; true means fine."""
    holds: Callable[[JobSpec], bool]
    """The same in Python."""
    message: str
    """What is wrong and what to change; shown by both."""


def broken_rules(spec: JobSpec) -> list[str]:
    """The message of every rule that `spec` breaks, each led by the field's path."""
    return [f"spec.{rule.path}: {rule.message}" for rule in RULES if not rule.holds(spec)]


RULES: list[Rule] = []
