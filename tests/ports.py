"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from itertools import islice
from pathlib import Path

LOWEST = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """One that nothing listens on, and that the kernel gives to no outgoing connection before a server takes it."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many of them, all different."""
    candidates = range(LOWEST, int(EPHEMERAL.read_text().split()[0]))
    # Not of `random` itself: tests that run side by side may have seeded it alike.
    drawn = random.SystemRandom().sample(candidates, len(candidates))
    return list(islice(filter(_is_free, drawn), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:  # somebody listens there
            return False
    return True
