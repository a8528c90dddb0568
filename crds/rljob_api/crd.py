"""The CRD, made from the models. `generated.py` writes it to `crds/rljobs.yaml`, the tests apply it as it is.

Printer columns say what `kubectl get rljobs` shows; the name's length is a rule at the root, because pods and services
carry it.
"""

from __future__ import annotations

from typing import TextIO

from ruamel.yaml import YAML

from .base import GROUP, KIND, VERSION, Manifest
from .job import MAX_NAME, RLJob
from .rules import EDIT_RULES, RULES, EditRule, Rule
from .schema import spec_schema, status_schema

PLURAL = "rljobs"
HEADER = "# Made from the models in rljob_api by `make crds`. Change those.\n"

COLUMNS: list[tuple[str, str, str, int]] = [
    ("Backend", "string", ".status.backend", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Step", "string", ".status.progress.display", 0),
    ("Reward", "string", '.status.progress.metrics[?(@.name=="reward")].value', 0),
    ("Ckpt", "integer", ".status.checkpoint.latest.step", 0),
    ("Trainers", "string", ".status.trainer.ready", 0),
    ("Rollouts", "string", ".status.rollout.ready", 0),
    ("Restarts", "integer", ".status.restarts", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Ckpt-Age", "date", ".status.checkpoint.latest.time", 1),
    ("Goodput", "string", ".status.goodput.percent", 1),
    ("Message", "string", ".status.message", 1),
]
"""Name, type, JSON path, priority (1: only with `-o wide`)."""


def crd() -> Manifest:
    """The CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "rljob",
                "shortNames": ["rlj"],
                "categories": ["all"],
            },
            "versions": [_version()],
        },
    }


def _version() -> Manifest:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.rollout.replicas",
                "statusReplicasPath": ".status.rollout.replicas",
                "labelSelectorPath": ".status.rollout.selector",
            },
        },
        "schema": {"openAPIV3Schema": _root()},
    }


def _column(name: str, kind: str, path: str, priority: int) -> Manifest:
    column: Manifest = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _root() -> Manifest:
    rules = [*map(validation, RULES), *map(_refusal, EDIT_RULES)]
    return {
        "description": RLJob.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec_schema(), "x-kubernetes-validations": rules},
            "status": status_schema(),
        },
        "x-kubernetes-validations": [_name_rule()],
    }


def _name_rule() -> Manifest:
    shape = "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    return {
        "rule": f"size(self.metadata.name) <= {MAX_NAME} && {shape}",
        "message": f"metadata.name: pods and services carry it: at most {MAX_NAME} characters of a-z, 0-9 and -, "
        "the first a letter and the last no dash.",
    }


def validation(rule: Rule) -> Manifest:
    """Holds for what is new: a rule that is made later hinders no other edit of a job, its suspension least of all."""
    judged = f"{rule.unchanged} || ({rule.cel})"
    return {**_refusal(rule), "rule": judged, "optionalOldSelf": True}


def _refusal(rule: Rule | EditRule) -> Manifest:
    return {
        "rule": rule.cel,
        "message": rule.message,
        "fieldPath": f".{rule.path}",
        "reason": "FieldValueInvalid",
    }


def write(out: TextIO) -> None:
    """Write the CRD as YAML."""
    yaml = YAML()
    yaml.width = 10_000  # one line per text: diffs follow the models
    yaml.representer.ignore_aliases = lambda _: True
    out.write(HEADER)
    yaml.dump(crd(), out)
