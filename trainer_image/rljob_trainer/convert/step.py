"""The container `convert` of a trainer pod. When it ends well, what training starts from is there.

Every trainer pod runs it before its own container, and so do other jobs with the same model: the first makes the
conversion, the others wait and say for whom. It needs no accelerator, and sees none.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from rljob_api.progress import EXIT_COMPLETE, EXIT_FAILED, EXIT_PREEMPTED, Ending, LastWords, TrainPhase
from rljob_api.run import Run
from rljob_trainer.backend.loggers import set_logging_level
from rljob_trainer.convert.once import convert_once
from rljob_trainer.convert.world import ConversionError
from rljob_trainer.errors import UnreachableError
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.words import write_last_words


class ToldToGo(BaseException):
    """SIGTERM: the work in hand is given up; there is nothing to save."""


def run_step(run: Run, node: int) -> int:
    """Convert, or wait until another pod has; the exit code. Raises `Mistake` for a model that cannot be converted,
    and `StorageError` without room."""
    logging.basicConfig(level=logging.INFO, format="[convert] %(message)s", stream=sys.stdout)
    set_logging_level(run.spec.backend_options)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # an image for GPUs may show them to every container
    signal.signal(signal.SIGTERM, _go)
    board = ProgressBoard(run)
    try:
        if node == 0:
            board.serve(os.environ["POD_IP"], run.progress_port)
        with board.phase(TrainPhase.CONVERT):
            path = convert_once(run, board.tell)
    except ToldToGo:
        _leave(run, node, board, Ending.PREEMPTED, "told to go while the model was converted")
        os._exit(EXIT_PREEMPTED)  # a download's threads would go on
    except (ConversionError, UnreachableError) as error:
        sys.stderr.write(f"{error}\n")
        _leave(run, node, board, Ending.FAILED, str(error))
        return EXIT_FAILED
    logging.info("the model is converted, in %s", path)
    return EXIT_COMPLETE


def _leave(run: Run, node: int, board: ProgressBoard, ending: Ending, message: str) -> None:
    words = LastWords(
        ending=ending,
        role="trainer",
        rank=node,
        attempt=run.attempt,
        exit_code=EXIT_PREEMPTED if ending is Ending.PREEMPTED else EXIT_FAILED,
        message=message,
        progress=board.progress() if node == 0 else None,
    )
    write_last_words(words, None)
    sys.stdout.flush()


def _go(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise ToldToGo
