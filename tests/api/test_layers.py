"""Which package imports which, as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "crds/rljob_api": set(),
    "operator/rljob_operator": {"rljob_api"},
    "operator/rljob_cli": {"rljob_api", "rljob_operator", "rljob_trainer"},
    "trainer_image/rljob_trainer": {"rljob_api"},
    "charts/rljob_chart": {"rljob_api", "rljob_operator", "rljob_trainer"},
}
OURS = {Path(place).name for place in MAY_IMPORT}


def imports(file: Path) -> set[str]:
    """The packages that a file names, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    return {name.partition(".")[0] for name in plain | {_whole(node) for node in nodes}}


def _whole(node: ast.AST) -> str:
    """`package.module` of `from package.module import …`; empty for a relative one."""
    return node.module or "" if isinstance(node, ast.ImportFrom) and node.level == 0 else ""


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(place: str) -> None:
    found = {file: imports(file) & OURS for file in (ROOT / place).rglob("*.py")}
    assert found
    own = MAY_IMPORT[place] | {Path(place).name}
    assert {file: names - own for file, names in found.items() if names - own} == {}


def test_of_the_trainer_the_command_line_imports_what_reads_a_volume() -> None:
    parts = {
        node.module
        for file in (ROOT / "operator" / "rljob_cli").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rljob_trainer")
    }
    assert parts
    assert {part for part in parts if not part.startswith("rljob_trainer.checkpoint.")} == {
        "rljob_trainer.errors"
    }
