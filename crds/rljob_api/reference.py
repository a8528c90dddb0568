"""`docs/reference.md`: every field of the spec and of the status, conditions and reasons, made from the models."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .fields import Field, below, field
from .reaches import REACHES
from .reasons import IN_THE_RUNBOOK
from .rules import EDIT_RULES, RULES
from .schema import enum_descriptions

HEADER = """# Reference

Made from the models in `crds/rljob_api` by `make crds`. `rljob explain FIELD` says the same in a terminal, and
`kubectl explain rljob.FIELD` in a cluster. Events and metrics have [a page of their own](events-and-metrics.md).

A field without a default may be absent, and its description says what that means.
"""

RULES_HEADER = """## Rules over several fields

The API server and `rljob validate` refuse a job that breaks one, with these words.
"""
EDITS_HEADER = """## What may change, and when

A running attempt keeps what it began with. An edit of another field than these is allowed at any time; it takes effect
when the next attempt begins, or the next pod starts. `suspend`, the deadlines, `failurePolicy`, `rollout.replicas` and
`checkpoint.storage.retentionPolicy` take effect at once.
"""
REACHES_HEADER = """## Where fields go

What becomes of a value, for those who know the library or have to look into it.
"""
PATTERN = re.compile(r" like (\S+)")
"""In the words for a text: Markdown would read its brackets as links and its stars as emphasis."""
RUNBOOK = "runbook-cluster.md"
CONDITIONS = """## Conditions

What `type` says in `status.conditions`. `kubectl wait --for=condition=Complete rljob/NAME` waits for one.
"""
REASONS = """## Reasons

What `reason` says in conditions, in Events, and in `status.attempt`. The message beside it names what is meant.
"""


def reference() -> str:
    """The whole page as Markdown: a table per section."""
    parts = [_section(each) for root in ("spec", "status") for each in _sections(field(root))]
    return "\n".join([HEADER, *parts, _rules(), _edits(), _reaches(), _conditions(), _reasons()])


def _rules() -> str:
    rows = [f"| `spec.{rule.path}` | {_words(rule.message)} |" for rule in RULES]
    return "\n".join([RULES_HEADER, "| field | rule |", "|---|---|", *rows, ""])


def _edits() -> str:
    rows = [f"| `spec.{rule.path}` | {_words(rule.message)} |" for rule in EDIT_RULES]
    return "\n".join([EDITS_HEADER, "| field | rule |", "|---|---|", *rows, ""])


def _reaches() -> str:
    rows = [
        f"| `spec.{reach.field}` | `{reach.callable.replace(':', '.')}` | `{reach.argument}` |"
        for reach in REACHES
    ]
    return "\n".join([REACHES_HEADER, "| field | reaches | as |", "|---|---|---|", *rows, ""])


def _words(message: str) -> str:
    return message.replace("|", "\\|")


def _conditions() -> str:
    rows = [f"| `{kind}` | {meaning} |" for kind, meaning in _meanings("ConditionType").items()]
    return "\n".join([CONDITIONS, "| type | `True` means |", "|---|---|", *rows, ""])


def _reasons() -> str:
    rows = [f"| {_with_runbook(reason)} | {meaning} |" for reason, meaning in _meanings("Reason").items()]
    return "\n".join([REASONS, "| reason | meaning, and what to do |", "|---|---|", *rows, ""])


def _with_runbook(reason: str) -> str:
    return f"[`{reason}`]({RUNBOOK}#{_anchor(reason)})" if reason in IN_THE_RUNBOOK else f"`{reason}`"


def _meanings(words: str) -> dict[str, str]:
    """What each word of an enumeration means, on one line."""
    return {word: " ".join(text.split()) for word, text in enum_descriptions()[words].items()}


def _sections(root: Field) -> Iterator[Field]:
    yield root
    yield from (each for each in below(root) if each.children)


def _section(section: Field) -> str:
    rows = [
        f"| `{child.name}` | {_kind(child)} | {_default(child)} | {_cell(child)} |"
        for child in section.children
    ]
    table = ["| field | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## `{section.path}`", "", section.description, "", *table, ""])


def _default(child: Field) -> str:
    if child.required and child.path.startswith("spec"):
        return "required"
    return f"`{child.default}`" if child.default is not None else ""


def _cell(child: Field) -> str:
    return child.description.replace("\n", "<br>").replace("|", "\\|")


def _kind(child: Field) -> str:
    if child.children:
        return f"[section](#{_anchor(child.path)})"
    return PATTERN.sub(r" like `\1`", child.kind).replace("|", "\\|")


def _anchor(path: str) -> str:
    """The anchor that GitHub makes of a heading: lower case, letters and digits only."""
    return "".join(letter for letter in path.lower() if letter.isalnum())
