"""What a container asks the scheduler for: the job's own words, else the administrator's defaults, never nothing.

A pod that asks for nothing is the first to be starved of CPU and to be killed for memory on a busy node. Limits are
never added: a training that is throttled or killed at a guess is worse than one that uses what is free.
"""

from __future__ import annotations

import re
from decimal import Decimal

from rljob_api.base import Manifest, Resources

from ..settings import Requests

NUMBER = re.compile(r"[0-9.]+")


def resources(asked: Resources, defaults: Requests, gpu: str, gpus: int) -> Manifest:
    """As in core/v1. `defaults` are for one GPU, or for a pod without; `gpu` is the device's resource name.

    Devices and huge pages cannot be overcommitted: their limit is what was asked for.
    """
    devices = {gpu: str(gpus)} if gpus else {}
    own = {name: amount for name, amount in asked.requests.items() if _is_whole(name)}
    missing = {
        name: times(amount, max(1, gpus))
        for name, amount in defaults.items()
        if name not in asked.limits  # which Kubernetes takes for the request
    }
    return {"requests": missing | asked.requests | devices, "limits": own | asked.limits | devices}


def times(quantity: str, count: int) -> str:
    """`500m` 8 times is `4000m`."""
    return NUMBER.sub(lambda number: str(Decimal(number[0]) * count), quantity, count=1)


def _is_whole(name: str) -> bool:
    return "/" in name or name.startswith("hugepages-")
