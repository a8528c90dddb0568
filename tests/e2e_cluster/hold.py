"""Stops the ranks of a pod in the middle of a phase. Run as a program beside the pod, where its address is reached."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from urllib.error import URLError

POLL_SECONDS = 0.002
PATIENCE_SECONDS = 1200


def main(url: str, phase: str, *ranks: str) -> None:
    """Prints the last finished step once rank 0 tells of `phase` and all `ranks`, process ids, are stopped."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (told := asked(url)).get("phase") != phase:
        if time.monotonic() > deadline:
            sys.exit(f"no {phase} within {PATIENCE_SECONDS} s; last told: {told}")
        time.sleep(POLL_SECONDS)
    for rank in ranks:
        os.kill(int(rank), signal.SIGSTOP)
    print(told["step"])


def asked(url: str) -> dict[str, object]:
    """What rank 0 tells; nothing before it listens."""
    try:
        with urllib.request.urlopen(url, timeout=300) as answer:
            return dict(json.load(answer))
    except URLError:
        return {}


if __name__ == "__main__":
    main(*sys.argv[1:])
