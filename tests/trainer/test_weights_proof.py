"""A server that is told to go while it proves its new weights: that is the server's end, and not the trainers'."""

from __future__ import annotations

from pathlib import Path

from rljob_api.progress import Ending
from trainer.answering import a_model, answering, job_beside


def test_a_proof_that_is_cut_off_makes_the_update_fail_and_be_done_again(tmp_path: Path) -> None:
    a_model(tmp_path / "model")
    with answering() as server, job_beside(server, tmp_path / "job") as job:
        server.aborted_proofs = 1
        job.start()
        assert job.finish().ending is Ending.COMPLETE, (job.folder / "log-1").read_text()
        assert server.aborted_proofs == 0
