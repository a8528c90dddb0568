"""A network of one's own, for a test and all that it starts.

Pods of `rljob run` are processes at loopback addresses. In a network namespace that the test made, `trouble.py` cuts
them off from each other, and nobody else on this machine notices.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from kube.processes import run
from kube.programs import Unavailable

NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2) and setns(2); Python has them from 3.12 on."""


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
