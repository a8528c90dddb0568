"""`rljob run` with toy pods: a process of its own, as only a real parent can be killed for real."""

from __future__ import annotations

import sys
from pathlib import Path

from rljob_api.job import RLJob
from rljob_cli.display import JsonLines
from rljob_cli.errors import UserMistake
from rljob_cli.run import run_job
from rljob_operator.settings import Settings


def main(job_file: str, work_dir: str) -> int:
    job = RLJob.model_validate_json(Path(job_file).read_text())
    settings = Settings(command=["python3", str(Path(__file__).with_name("toy_pod.py"))])
    try:
        return run_job(job, Path(job_file).parent, Path(work_dir), JsonLines(), settings)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
