"""What a case of a rule is."""

from __future__ import annotations

from typing import NamedTuple

from rljob_api.base import Manifest


class Case(NamedTuple):
    """Specs that differ in what the rule looks at."""

    bad: list[Manifest]
    good: list[Manifest]
