"""The table of values in the chart's README, between two marks; the rest of the page is written by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .fields import Value, leaves, values

README = Path("charts/rljob-operator/README.md")
MARKS = ("<!-- values, made by `make crds` -->\n", "<!-- end of values -->")
BETWEEN = re.compile(f"(?<={re.escape(MARKS[0])}).*(?={re.escape(MARKS[1])})", re.DOTALL)


def readme() -> str:
    """The page as it stands, with the table of today."""
    rows = "".join(map(_row, leaves(values())))
    table = f"\n| value | default | what it changes |\n|---|---|---|\n{rows}\n"
    return BETWEEN.sub(lambda _: table, README.read_text(encoding="utf-8"))


def _row(value: Value) -> str:
    default = json.dumps(value.default, ensure_ascii=False)
    text = " ".join(value.text.split()).replace("|", "\\|")
    return f"| `{value.path}` | `{default}` | {text} |\n"
