"""`rljob schema`: the JSON schema that editors check and complete job files with."""

from __future__ import annotations

from rljob_api.generated import editor_schema


def schema() -> None:
    """Print the JSON schema of RLJob, for editors."""
    print(editor_schema(), end="")
