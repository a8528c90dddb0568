"""A network of one's own, for a test and all that it starts, with rules on what passes.

Pods of `rljob run` are processes at loopback addresses. In a network namespace that the test made, nftables cuts them
off from each other, and nobody else on this machine notices.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kube.processes import run
from kube.programs import Unavailable

NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2) and setns(2); Python has them from 3.12 on."""
TABLE = ("inet", "trouble")
HALF = "numgen random mod 2 0 counter drop"
"""Every second packet, by chance, is lost."""


def cut_off(address: str) -> str:
    """Nothing reaches this address, and nothing comes from it."""
    return f"ip saddr {address} counter drop\nip daddr {address} counter drop"


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and the processes that it starts, are alone with a loopback device of their own.

    Raises `Unavailable` where that cannot be had.
    """
    if shutil.which("nft") is None:
        raise Unavailable("rules on packets need Debian's nftables (`python -m kube.packages` installs it)")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(NEW_NETWORK):
            raise Unavailable(f"a network of its own needs root: {os.strerror(ctypes.get_errno())}")
        try:
            run("ip", "link", "set", "lo", "up")
            yield
        finally:
            libc.setns(before, NEW_NETWORK)
    finally:
        os.close(before)


@contextmanager
def trouble(rules: str) -> Iterator[Callable[[], int]]:
    """What `rules` say of packets holds in the block. Gives what tells how many were lost so far."""
    family, name = TABLE
    chain = f"chain arriving {{\ntype filter hook input priority 0\n{rules}\n}}"
    subprocess.run(
        ["nft", "-f", "-"], input=f"table {family} {name} {{\n{chain}\n}}\n", text=True, check=True
    )
    try:
        yield _lost
    finally:
        run("nft", "delete", "table", *TABLE)


def _lost() -> int:
    listed = json.loads(run("nft", "--json", "list", "table", *TABLE))["nftables"]
    rules = [part for each in listed for part in each.get("rule", {}).get("expr", [])]
    return sum(part["counter"]["packets"] for part in rules if "counter" in part)
