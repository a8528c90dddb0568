"""Which GPUs of this machine are free: what a device plugin does in a cluster."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path


class Gpus:
    """Hands out whole GPUs by their ids."""

    def __init__(self, ids: list[str]) -> None:
        self._all = ids
        self._taken: dict[str, str] = {}
        self._lock = threading.Lock()

    def take(self, pod: str, count: int) -> list[str] | str:
        """`count` ids, or the sentence why not."""
        with self._lock:
            free = [gpu for gpu in self._all if gpu not in self._taken]
            if len(free) < count:
                return f"needs {count} GPUs, and {len(free)} of this machine's {len(self._all)} are free"
            self._taken |= dict.fromkeys(free[:count], pod)
            return free[:count]

    def give_back(self, pod: str) -> None:
        with self._lock:
            self._taken = {gpu: holder for gpu, holder in self._taken.items() if holder != pod}


def gpus_of_this_machine(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> list[str]:
    """`CUDA_VISIBLE_DEVICES` if it is set, else the devices that the driver shows."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one.strip() for one in visible.split(",") if one.strip()]
    found = (re.fullmatch(r"nvidia(\d+)", entry.name) for entry in dev.iterdir())
    return sorted((match[1] for match in found if match), key=int)
