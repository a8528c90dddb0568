"""The parent of a pod's ranks, before they exist."""

from __future__ import annotations

import signal
import subprocess
import sys

from rljob_api.progress import EXIT_PREEMPTED

IMPORTS_FOR_LONG = """
import time
from rljob_trainer import launch
def takes_long(run):
    print("importing", flush=True)
    time.sleep(60)
launch._import_once = takes_long
launch.launch(None, 0)
"""


def test_who_is_told_to_go_while_it_imports_leaves_at_once_and_says_so() -> None:
    """As a pod's first process it would not hear SIGTERM without a handler of its own."""
    with subprocess.Popen([sys.executable, "-c", IMPORTS_FOR_LONG], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"importing\n"
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == EXIT_PREEMPTED
