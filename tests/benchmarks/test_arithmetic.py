"""The arithmetic of the benchmarks: turns, ratios, targets and the table. Nothing here takes time."""

from __future__ import annotations

import json
from pathlib import Path

from bench.result import Check, Others, Result, at_least, at_most, within, write
from bench.rounds import ratio, take_turns
from bench.table import write_table


def test_candidates_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def candidate(name: str, seconds: list[float]) -> float:
        calls.append(name)
        return seconds.pop(0)

    ours, floor = [9.0, 1.0, 2.0], [9.0, 3.0, 4.0]
    seconds = take_turns(
        {"ours": lambda: candidate("ours", ours), "floor": lambda: candidate("floor", floor)}, rounds=2
    )
    assert calls == ["ours", "floor"] * 3
    assert seconds == {"ours": [1.0, 2.0], "floor": [3.0, 4.0]}


def test_one_slow_round_does_not_change_a_ratio() -> None:
    assert ratio({"ours": [3.0, 3.0, 90.0], "floor": [2.0, 1.0, 2.0]}, "ours", "floor") == 1.5


def test_a_target_is_reached_on_its_edge() -> None:
    assert at_most("x", 1.5, 1.5).met
    assert not at_most("x", 1.51, 1.5).met
    assert at_least("x", 1.0, 1.0).met
    assert not at_least("x", 0.99, 1.0).met
    assert within("x", -0.1, 0.1).met
    assert not within("x", -0.11, 0.1).met


def test_the_table_shows_a_missed_target(tmp_path: Path) -> None:
    checks = [Check("save over its floor", 1.7, "≤ 1.5", met=False)]
    write(
        Result("save", checks, {"save": [1.0, 2.0, 9.0]}, {"checkpoint_mb": 300}), Others(0.5, 2.5), tmp_path
    )
    write_table(tmp_path, ["save"])
    table = (tmp_path / "README.md").read_text()
    assert "| save | save over its floor | 1.7 | ≤ 1.5 | **no** |" in table
    assert "- save: 2 s" in table
    assert "- checkpoint mb: 300" in table
    assert "load 0.5 before, 2.5 % stolen" in table
    assert f"commit {json.loads((tmp_path / 'save.json').read_text())['commit']}" in table
