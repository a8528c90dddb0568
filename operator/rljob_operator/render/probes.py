"""Probes: how it is known that a pod came up, answers, and still lives."""

from __future__ import annotations

from rljob_api.base import Manifest

STARTUP_SECONDS = 3600
"""Downloads, conversion and warm-up of a large model pass in this time, or something is wrong."""
READINESS_SECONDS = 5
LIVENESS_PERIOD_SECONDS = 30


def http_probes(path: str, port: int, *, startup_period: int, patience_seconds: int) -> Manifest:
    """`patience_seconds`: silence after which a pod that had started is killed."""
    get: Manifest = {"httpGet": {"path": path, "port": port}}
    return {
        "startupProbe": get
        | {
            "periodSeconds": startup_period,
            "timeoutSeconds": 5,
            "failureThreshold": STARTUP_SECONDS // startup_period,
        },
        "readinessProbe": get
        | {"periodSeconds": READINESS_SECONDS, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": get
        | {
            "periodSeconds": LIVENESS_PERIOD_SECONDS,
            "timeoutSeconds": 10,
            "failureThreshold": max(1, patience_seconds // LIVENESS_PERIOD_SECONDS),
        },
    }
