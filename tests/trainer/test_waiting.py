"""A gang that waits for its rollout servers, while a newer attempt takes its volume."""

from __future__ import annotations

from pathlib import Path

from rljob_api.progress import Ending
from rljob_trainer.checkpoint.fence import Fence, take_fence
from trainer.answering import Server, a_model, job_beside
from waiting import DEADLINE_SECONDS, until


def test_it_stops_once_a_newer_attempt_has_the_volume(tmp_path: Path) -> None:
    """As one that is cut off with its node, whose servers are the newer attempt's: nobody else could tell it."""
    a_model(tmp_path / "model")
    with job_beside(Server(port=1), tmp_path / "waits") as job:  # nobody listens there
        job.start()
        attempts = job.storage / "attempts"
        until(lambda: any(attempts.glob("000001-*")), "the first attempt has the volume", DEADLINE_SECONDS)
        take_fence(attempts, Fence(2, "2-token"))
        words = job.finish()
    assert words.ending is Ending.FAILED
    assert words.message.startswith(f"attempt 1 may not write to {job.storage} any more")
