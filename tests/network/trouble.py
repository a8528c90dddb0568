"""Packets that are lost, by rules of nftables in a network namespace that somebody else made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kube.processes import Command, Failure, run

TABLE = ("inet", "trouble")
HALF = "numgen random mod 2 0 counter drop"
"""Every second packet, by chance, is lost."""
FROM_OUTSIDE = "iif != lo"
"""Before a rule, in the namespace of a pod: for what comes from other pods and nodes."""


def cut_off(address: str) -> str:
    """Nothing reaches this address, and nothing comes from it."""
    return f"ip saddr {address} counter drop\nip daddr {address} counter drop"


@contextmanager
def trouble(rules: str, inside: Command | None = None) -> Iterator[Callable[[], int]]:
    """What `rules` say of packets that arrive holds in the block. Gives what tells how many were lost so far.

    `inside`, before a command, runs it in the namespace; without it the rules are for that of this thread.
    """
    within = inside or []
    family, name = TABLE
    chain = f"chain arriving {{\ntype filter hook input priority 0\n{rules}\n}}"
    table = f"table {family} {name} {{\n{chain}\n}}\n"
    subprocess.run([*within, "nft", "-f", "-"], input=table, text=True, check=True)
    try:
        yield lambda: _lost(within)
    finally:
        _heal(within)


def _heal(within: Command) -> None:
    """A pod that was replaced meanwhile has taken its namespace along, and the rules in it."""
    try:
        run(*within, "nft", "delete", "table", *TABLE)
    except Failure:
        if subprocess.run([*within, "true"], check=False).returncode == 0:
            raise


def _lost(within: Command) -> int:
    listed = json.loads(run(*within, "nft", "--json", "list", "table", *TABLE))["nftables"]
    rules = [part for each in listed for part in each.get("rule", {}).get("expr", [])]
    return sum(part["counter"]["packets"] for part in rules if "counter" in part)
