"""The jobs of the files in examples/, small enough for tests."""

from __future__ import annotations

from pathlib import Path

from rljob_api.base import Manifest
from rljob_cli.document import read_document

EXAMPLES = Path(__file__).parents[1] / "examples"


def shortened(name: str, steps: int) -> Manifest:
    """The job of that file with fewer steps, without validation, and with one server; it saves half-way and at its
    end."""
    manifest = read_document(EXAMPLES / name).data
    spec = manifest["spec"]
    spec["algorithm"]["grpo"] |= {"maxSteps": steps, "validationPeriod": 0}
    spec["rollout"]["replicas"] = 1
    spec["checkpoint"]["savePeriod"] = steps // 2
    return manifest
