"""What a rule over several fields is. The tables are in `rules.py`, `pod_rules.py` and `edit_rules.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import JobSpec


FIELD = re.compile(r"(\bhas\()?\bself\.(\w+(?:\.\w+\b(?!\())*)")
"""A field in CEL, and whether it is only asked for; a word before a bracket is a function."""


def same(field: str, old: str = "oldSelf", *, optional: bool = True) -> str:
    """CEL: the field is as it was."""
    now, before = f"self.{field}", f"{old}.{field}"
    alike = f"{now} == {before}"
    return f"has({now}) == has({before}) && (!has({now}) || {alike})" if optional else alike


@dataclass(frozen=True)
class Rule:
    """One rule at `spec`."""

    name: str
    path: str
    """Field that is to be changed, relative to `spec`."""
    message: str
    """What is wrong and what to change; shown by both."""
    holds: Callable[[JobSpec], bool]
    cel: str
    """The same over `self` = spec; true means fine. The API server asks it only of what is new (`unchanged`)."""
    numbers: Callable[[JobSpec], str] = lambda spec: ""
    """What `rljob` says before the message: the API server may not, for it takes a number's text to be of any length,
    and so too costly."""

    @property
    def reads(self) -> frozenset[str]:
        """Fields whose values it depends on, relative to `spec`; of a list no more than the list itself."""
        return frozenset(field for asked, field in FIELD.findall(self.cel) if not asked)

    @property
    def asks_for(self) -> frozenset[str]:
        """Fields that it asks whether they are there."""
        return frozenset(field for asked, field in FIELD.findall(self.cel) if asked)

    @property
    def unchanged(self) -> str:
        """CEL: this is an edit, and of nothing that the rule looks at. `oldSelf` is optional."""
        blocks = tuple(f"{field}." for field in self.asks_for)
        looked_at = [each for each in sorted(self.reads | self.asks_for) if not each.startswith(blocks)]
        alike = [same(each, "oldSelf.value()", optional=each in self.asks_for) for each in looked_at]
        return " && ".join(["oldSelf.hasValue()", *alike])

    def with_numbers(self, spec: JobSpec) -> Rule:
        """This, its message with the numbers of `spec`."""
        return replace(self, message=self.numbers(spec) + self.message)


@dataclass(frozen=True)
class EditRule:
    """One rule on a change of `spec`."""

    name: str
    path: str
    message: str
    allows: Callable[[JobSpec, JobSpec], bool]
    """Whether the old spec may become the new one: `allows(old, new)`."""
    cel: str
    """The same over `oldSelf` and `self`."""


class BrokenRulesError(ValueError):
    """A spec whose fields are fine one by one, and not together."""

    def __init__(self, rules: list[Rule], spec: JobSpec) -> None:
        super().__init__(sentences(rules))
        self.rules = rules
        self.spec = spec


def sentences(broken: Iterable[Rule | EditRule]) -> str:
    """What is to be changed; empty if nothing is broken."""
    return "; ".join(f"spec.{rule.path}: {rule.message}" for rule in broken)
