"""`bench/results/README.md`: all results as one table. Pure but for reading and writing the folder."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from rljob_api.base import Manifest

HEAD = """# What was measured

Written by `make bench` from the JSON files beside it, which hold every single measurement. What is compared with a
floor or a peer took turns with it in the same run; seconds are medians. The section of each says how it was measured,
on which machine, and what keeps it from a target that it missed.

| | measured | | target | reached |
|---|---|---|---|---|
"""


def write_table(folder: Path, order: list[str]) -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    results.sort(key=lambda result: order.index(result["name"]))
    (folder / "README.md").write_text(table(results), encoding="utf-8")


def table(results: list[Manifest]) -> str:
    """One row per check, then a section per benchmark with its medians, facts and machine."""
    rows = [row for result in results for row in _rows(result)]
    return "\n".join([HEAD + "\n".join(rows), *map(_section, results)])


def _rows(result: Manifest) -> list[str]:
    return [
        f"| {result['name']} | {check['what']} | {check['value']:g} | {check['target']}"
        f" | {'yes' if check['met'] else '**no**'} |"
        for check in result["checks"]
    ]


def _section(result: Manifest) -> str:
    machine = result["machine"]
    where = (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB,"
        f" load {machine['load_before']} before{_stolen(machine)}; {result['time'][:10]}{_commit(result)};"
        f" {', '.join(f'{name} {version}' for name, version in result['versions'].items())}"
    )
    seconds = [f"- {name}: {median(values):.3g} s" for name, values in result["seconds"].items() if values]
    facts = [f"- {name.replace('_', ' ')}: {_text(value)}" for name, value in result["facts"].items()]
    return "\n".join([f"\n## {result['name']}\n", result["comment"], "", *seconds, *facts, f"\n{where}"])


def _stolen(machine: Manifest) -> str:
    """Results of long ago do not say."""
    return f", {machine['stolen_percent']} % stolen" if "stolen_percent" in machine else ""


def _commit(result: Manifest) -> str:
    """Results of long ago do not say."""
    return f", commit {result['commit']}" if "commit" in result else ""


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
