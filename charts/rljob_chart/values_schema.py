"""`values.schema.json`: Helm holds a user's values against it before it renders anything."""

from __future__ import annotations

import json

from .values import Values


def values_schema() -> str:
    schema = Values.model_json_schema(by_alias=True)
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"  # the newest that all Helm 3 know
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
