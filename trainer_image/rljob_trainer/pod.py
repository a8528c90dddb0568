"""What the containers of a pod run. A user's mistake ends as one sentence and exit code 2, never as a traceback; a
volume without room likewise, with exit code 5."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rljob_api.progress import EXIT_CODES, EXIT_PREEMPTED, Ending, LastWords
from rljob_api.run import Run
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.errors import Mistake
from rljob_trainer.words import write_last_words

RUN_FILE_ENV = "RLJOB_RUN_FILE"


def train() -> int:
    """Start this node's training ranks and wait for them."""
    from rljob_trainer.launch import launch

    node = int(os.environ["RLJOB_NODE_RANK"])
    return _guarded("trainer", node, lambda run: launch(run, node))


def rollout() -> int:
    """Become vLLM's server."""
    from rljob_trainer.rollout.server import serve

    replica = int(os.environ["RLJOB_REPLICA"])
    return _guarded("rollout", replica, lambda run: serve(run, replica, os.environ["POD_IP"]))


def convert() -> int:
    """Have the model converted, before training starts in the same pod."""
    # Imports take seconds, and nothing is there to be cleared away. A pod's first process is deaf without a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_PREEMPTED))
    from rljob_trainer.convert.step import run_step

    node = int(os.environ["RLJOB_NODE_RANK"])
    return _guarded("trainer", node, lambda run: run_step(run, node))


def read_run() -> Run:
    """The attempt as the operator rendered it."""
    return Run.model_validate_json(Path(os.environ[RUN_FILE_ENV]).read_text())


def _guarded(role: str, index: int, start: Callable[[Run], int]) -> int:
    run = read_run()
    try:
        return start(run)
    except (Mistake, StorageError) as told:
        sys.stderr.write(f"{told}\n")
        ending = Ending.MISTAKE if isinstance(told, Mistake) else Ending.VOLUME_UNUSABLE
        code = EXIT_CODES[ending]
        words = LastWords(
            ending=ending, role=role, rank=index, attempt=run.attempt, exit_code=code, message=str(told)
        )
        write_last_words(words, None)
        return code
