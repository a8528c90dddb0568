"""`make picture`: draws `docs/run.svg` anew, from a real run of the example in the middle of its training."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from rich.console import Console
from ruamel.yaml import YAML

from e2e.local_job import LocalJob
from rljob_api.progress import TrainPhase
from rljob_cli.panel import panel

ROOT = Path(__file__).parents[2]
EXAMPLE = Path("examples/addition-cpu.yaml")
PICTURE = ROOT / "docs" / "run.svg"
STEP = 40
"""A checkpoint is there by then, and an evaluation."""
COLUMNS = 92


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rljob-picture-") as folder:
        job = LocalJob(YAML(typ="safe").load(ROOT / EXAMPLE), Path(folder)).start()
        try:
            job.wait_for(lambda: _in_the_middle(job), deadline=600)
            PICTURE.write_text(drawn(job))
            job.stop()
        finally:
            job.kill()
    print(f"{PICTURE.relative_to(ROOT)} is drawn")


def drawn(job: LocalJob) -> str:
    """As `rljob run` shows the job now, in the reader's own monospace font: an SVG's text."""
    status = job.status()
    assert status is not None
    console = Console(record=True, width=COLUMNS)
    console.print(f"$ rljob run {EXAMPLE}\n")
    console.print(panel(job.manifest["metadata"]["name"], status, job.progress(), time.time()))
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="rljob run"), flags=re.DOTALL)


def _in_the_middle(job: LocalJob) -> bool:
    status = job.status()
    if status is None or status.progress.step < STEP:
        return False
    progress = job.progress()
    return progress is not None and progress.phase is TrainPhase.GENERATE


if __name__ == "__main__":
    main()
