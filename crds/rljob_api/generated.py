"""Every file that is made from the models: `python -m rljob_api.generated` (`make crds`) writes them.

A test fails when one of them is not what the models say.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from .base import Manifest
from .crd import write
from .job import RLJob
from .reference import reference


def crd_yaml() -> str:
    """The CRD."""
    out = StringIO()
    write(out)
    return out.getvalue()


def editor_schema() -> str:
    """The JSON schema of a job file, for editors. The status is not the user's to write."""
    schema: Manifest = RLJob.model_json_schema(by_alias=True)
    del schema["properties"]["status"]
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"


GENERATED: dict[str, Callable[[], str]] = {
    "crds/rljobs.yaml": crd_yaml,
    "charts/rljob-operator/files/rljobs.yaml": crd_yaml,
    "crds/rljob.schema.json": editor_schema,
    "docs/reference.md": reference,
}
"""What makes each file, by its path in the repository."""


if __name__ == "__main__":
    for name, made in GENERATED.items():
        Path(name).write_text(made(), encoding="utf-8")
