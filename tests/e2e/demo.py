"""`make demo-preemption`: the job of examples/spot.yaml twice, once left alone and once with its machines taken away.

The second run loses a rank with notice, a rank without, a vLLM server and the whole command. Both curves are drawn;
they are the same, bit for bit, and so are samples and weights.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from e2e.kills import kill_command, kill_rank, kill_server, step
from e2e.local_job import LocalJob
from e2e.volume import differences
from rljob_api.base import Manifest
from rljob_api.progress import TrainPhase
from rljob_api.status import AttemptStatus

REPOSITORY = Path(__file__).parents[2]
JOB = REPOSITORY / "examples" / "spot.yaml"
LAST = 60
"""Steps of that job."""
BARS = "▁▂▃▄▅▆▇█"

Blow = Callable[[LocalJob], object]
BLOWS: list[tuple[int, str, Blow]] = [
    (8, "notice: SIGTERM to a rank", lambda job: rank_goes(job, signal.SIGTERM, TrainPhase.TRAIN)),
    (20, "no notice: SIGKILL to a rank", lambda job: rank_goes(job, signal.SIGKILL, TrainPhase.SYNC)),
    (32, "a vLLM server is killed", lambda job: kill_server(job, signal.SIGKILL, TrainPhase.GENERATE, 0, -1)),
    (44, "`kill -9` of rljob run; the same command again", kill_command),
]
"""At which step, what is said, and what is done."""


def main() -> int:
    """0 when nothing differs."""
    with tempfile.TemporaryDirectory(prefix="rljob-demo-") as folder:
        alone = begun(Path(folder) / "alone")
        taken = begun(Path(folder) / "taken-away", start=False)
        try:
            say("the job of examples/spot.yaml, left alone")
            finish(alone)
            say("the same job, with its machines taken away")
            taken.start()
            for at, what, blow in BLOWS:
                strike(taken, at, what, blow)
            finish(taken)
        finally:
            alone.kill()
            taken.kill()
        return shown(alone, taken)


def begun(folder: Path, *, start: bool = True) -> LocalJob:
    manifest: Manifest = YAML(typ="safe").load(JOB)
    job = LocalJob(manifest, folder)
    return job.start() if start else job


def rank_goes(job: LocalJob, how: signal.Signals, phase: TrainPhase) -> None:
    kill_rank(job, how, phase, rank=1, before=-1)


def strike(job: LocalJob, at: int, what: str, blow: Blow) -> None:
    _reach(job, at)
    before, attempt = step(job), _attempt(job)
    began = time.monotonic()
    blow(job)
    job.wait_for(lambda: step(job) > before, deadline=600)
    now = _attempt(job)
    came = "training went on meanwhile"
    if now is not None and (attempt is None or now.number != attempt.number):
        came = f"attempt {now.number} went on from step {now.from_step}"
    say(f"step {before}: {what}; {came}, step {before + 1} done {time.monotonic() - began:.0f} s later")


def _attempt(job: LocalJob) -> AttemptStatus | None:
    status = job.status()
    return status.attempt if status else None


def _reach(job: LocalJob, at: int) -> None:
    """Every tenth step is told on the way: starting vLLM takes a while."""
    told = 0

    def reached() -> bool:
        nonlocal told
        now = step(job)
        if now // 10 > told // 10:
            told = now
            print(f"    step {now}", flush=True)
        return now >= at

    job.wait_for(reached, deadline=900)


def finish(job: LocalJob) -> None:
    _reach(job, LAST - 1)
    if job.finish(900) != 0:
        sys.exit(f"the job failed:\n{job.words()}")
    status = job.status()
    assert status is not None
    say(f"complete after {status.progress.step} steps, {status.restarts} restarts of the trainers")


def shown(alone: LocalJob, taken: LocalJob) -> int:
    """Both curves and the verdict."""
    for name, job in (("left alone", alone), ("taken away", taken)):
        print(f"  reward, {name}  {bars(list(job.volume.curve('reward').values()))}")
    marks = {at for at, _, _ in BLOWS}
    print(
        f"  {'':20}  {''.join('^' if n in marks else ' ' for n in range(1, len(alone.volume.losses()) + 1))}"
    )
    unequal = differences(taken.volume, alone.volume)
    for what in ("losses", "samples", "weights"):
        print(f"  {what}: {'DIFFERENT' if what in unequal else 'the same, bit for bit'}")
    return 1 if unequal else 0


def bars(values: list[float]) -> str:
    """A bar for each value, from the lowest to the highest of them."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1))] for value in values)


def say(sentence: str) -> None:
    print(f"==> {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
