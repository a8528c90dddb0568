"""Whether labels are selected, as the Kubernetes API defines it."""

from __future__ import annotations

from .api import Manifest

Labels = dict[str, str]


def selects(selector: Manifest, labels: Labels) -> bool:
    """An empty selector selects everything."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(_holds(each, labels) for each in selector.get("matchExpressions", []))


def _holds(expression: Manifest, labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"no such operator: {other}")
