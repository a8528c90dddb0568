"""What results depend on beside the state that a checkpoint holds, then and now, and what of it is another.

Every checkpoint holds its own. The furthest finished step has its in the job's directory: so an attempt that does steps
again can tell whether they come back as they were (`past.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from rljob_api.base import Record
from rljob_api.exactness import lasting_doubts
from rljob_api.job import JobSpec
from rljob_api.manifest import Layout, ProcessVersions, Versions

from .durable import read_record, remove_durably, write_durably
from .facts import Facts, changes, result_facts
from .reshard import same_spread

BASIS_FILE = "basis.json"
OF_SERVERS = {"rollout_servers", "unlike_servers"}
"""Fields of `Versions` that are compared by themselves: servers are asked later than ranks, or never."""


class Basis(Record):
    """What some steps depended on."""

    facts: Facts
    """Of the spec."""
    layout: Layout
    versions: Versions

    @classmethod
    def of(cls, spec: JobSpec, layout: Layout, versions: Versions) -> Self:
        return cls(facts=result_facts(spec), layout=layout, versions=versions)

    def doubts(self, spec: JobSpec, now: Layout, versions: Versions, *, drawn: bool = True) -> list[str]:
        """Why steps do not come out as under this basis, as parts of a sentence; samples are `drawn`, or recorded."""
        return [
            *self.layout_doubts(now),
            *(change.told for change in changes(self.facts, spec)),
            *version_doubts(self.versions, versions),
            *lasting_doubts(spec, drawn=drawn),
        ]

    def layout_doubts(self, now: Layout) -> list[str]:
        same = same_spread(self.layout, now)
        return [] if same else [f"the layout was {self.layout.short} and is {now.short}"]

    def keeps_order(self, spec: JobSpec) -> bool:
        """Whether the prompts that come next are those that would have come."""
        return not any(change.of_order for change in changes(self.facts, spec))


def version_doubts(then: Versions, now: Versions) -> list[str]:
    """One that an older version did not note is taken to be the same."""
    return [*_changed(then, now), *_server_doubts(then, now)]


def _server_doubts(then: Versions, now: Versions) -> list[str]:
    """None as long as servers were not asked, which recorded samples do not need."""
    if not now.asked_servers:
        return []
    unlike = {then.unlike_servers: "were", now.unlike_servers: "are"}
    doubts = [f"rollout servers {verb} unlike: {told}" for told, verb in unlike.items() if told]
    if then.rollout_servers and now.rollout_servers:
        doubts += _changed(then.rollout_servers, now.rollout_servers, " of the rollout servers")
    return doubts


def _changed(then: ProcessVersions, now: ProcessVersions, whose: str = "") -> list[str]:
    noted = _noted(then)
    was, is_now = _by_name(then, noted), _by_name(now, noted)
    return [
        f"{name}{whose} was {was.get(name) or 'absent'} and is {is_now.get(name) or 'absent'}"
        for name in was | is_now
        if was.get(name) != is_now.get(name)
    ]


def _noted(versions: ProcessVersions) -> list[str]:
    """Fields that a writer knew of."""
    return [field for field, value in versions if value not in (None, "") and field not in OF_SERVERS]


def _by_name(versions: ProcessVersions, fields: list[str]) -> dict[str, str]:
    """For sentences; each variable of an environment by its own name."""
    flat: dict[str, str] = {}
    for field in fields:
        name, value = field.replace("_", " "), getattr(versions, field)
        if isinstance(value, dict):
            flat |= {f"{variable} in the {name}": given or "empty" for variable, given in value.items()}
        else:
            flat[name] = str(value)
    return flat


def read_basis(root: Path) -> Basis | None:
    """Of the furthest finished step; None if that is not known."""
    return read_record(root / BASIS_FILE, Basis, "what the steps before depended on is not known")


def forget_basis(root: Path) -> None:
    """Before steps are noted that come of another beginning."""
    remove_durably(root / BASIS_FILE)


def write_basis(root: Path, basis: Basis) -> None:
    """Before the furthest step is noted that depends on it."""
    if read_basis(root) != basis:
        write_durably(root / BASIS_FILE, basis.model_dump_json(by_alias=True))
