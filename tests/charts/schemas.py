"""JSON schemas for kubeconform, made from what an API server says of itself: no download, and the very version."""

from __future__ import annotations

import json
from pathlib import Path

from kube.api import Api, Manifest

GVK = "x-kubernetes-group-version-kind"
PREFIX = "io.k8s.apimachinery.pkg."
NUMBER_OR_TEXT = {"oneOf": [{"type": "string"}, {"type": "number"}]}
LOOSE = {f"{PREFIX}util.intstr.IntOrString": NUMBER_OR_TEXT, f"{PREFIX}api.resource.Quantity": NUMBER_OR_TEXT}
"""What OpenAPI 2 calls a string although a number is one of its spellings."""
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


def write_schemas(api: Api, folder: Path) -> str:
    """A file per kind in `folder`; unknown fields are mistakes. Returns kubeconform's `-schema-location`."""
    known: Manifest = api.get("/openapi/v2").body["definitions"]
    definitions = {name: LOOSE.get(name, _strict(schema)) for name, schema in known.items()}
    (folder / "definitions.json").write_text(json.dumps({"definitions": definitions}))
    for name, schema in known.items():
        for kind in schema.get(GVK, []):
            reference = {"$ref": f"definitions.json#/definitions/{name}"}
            (folder / f"{_file_name(kind)}.json").write_text(json.dumps(reference))
    return str(folder / LOCATION)


def _file_name(kind: Manifest) -> str:
    """As kubeconform spells it: `deployment-apps-v1`, `pod-v1`."""
    group = kind["group"].split(".")[0]
    return "-".join(part for part in (kind["kind"].lower(), group, kind["version"]) if part)


def _strict(node: Manifest) -> Manifest:
    """References point into the one file, and an object has no fields but its own."""
    found = {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}
    if reference := found.pop("$ref", None):
        found["$ref"] = f"definitions.json{reference}"
    if properties := found.get("properties"):
        found["properties"] = {name: _strict(each) for name, each in properties.items()}
        found.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _strict(found[key])
    return found
