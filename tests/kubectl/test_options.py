"""What every command on a cluster takes."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from rljob_cli.__main__ import IN_A_CLUSTER, command_line

TAKE_A_JOB = [
    name for name in IN_A_CLUSTER if name not in ("validate", "explain", "schema", "render", "submit")
]


@pytest.mark.parametrize("name", ["", "a/b", "..", "Ä"])
@pytest.mark.parametrize("command", TAKE_A_JOB)
def test_what_cannot_be_a_name_never_reaches_a_cluster(command: str, name: str) -> None:
    """The API server takes an empty one for all jobs of the namespace."""
    done = CliRunner().invoke(command_line([command], "kubectl-rljob"), [command, name])
    assert (done.exit_code, "cannot be the name of a job" in done.stderr) == (2, True)
