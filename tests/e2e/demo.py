"""`make demo-preemption`: the job of examples/spot.yaml twice, once left alone and once with its machines taken away.

The second run loses a rank with notice, a rank without, a vLLM server and the whole command. Both curves are drawn;
they are the same, bit for bit, and so are samples and weights.
"""

from __future__ import annotations

import shutil
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
from rljob_api.status import AttemptStatus, Phase

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
    """0 when nothing differs; then only what was printed is left."""
    folder = Path(tempfile.mkdtemp(prefix="rljob-demo-"))
    alone = begun(folder / "alone")
    taken = begun(folder / "taken-away", start=False)
    try:
        say("the job of examples/spot.yaml, left alone")
        finish(alone)
        say("the same job, with its machines taken away")
        taken.start()
        for at, what, blow in BLOWS:
            strike(taken, at, what, blow)
        finish(taken)
    except AssertionError:
        last = taken if taken.process else alone
        sys.exit(f"demo-preemption: the job {stands(last)}; its logs stay in {last.folder}")
    finally:
        alone.kill()
        taken.kill()
    unequal = shown(alone, taken)
    if not unequal:
        shutil.rmtree(folder)
    return unequal


def stands(job: LocalJob) -> str:
    status = job.status()
    if status is None:
        return "did not begin"
    return f"is {status.phase}, step {status.progress.display}, and does not go on"


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
    job.wait_for(lambda: step(job) > before)
    now = _attempt(job)
    came = "training went on meanwhile"
    if now is not None and (attempt is None or now.number != attempt.number):
        came = f"attempt {now.number} went on from step {now.from_step}"
    say(f"step {before}: {what}; {came}, step {before + 1} done {time.monotonic() - began:.0f} s later")


def _attempt(job: LocalJob) -> AttemptStatus | None:
    status = job.status()
    return status.attempt if status else None


def _reach(job: LocalJob, at: int) -> None:
    """Wait for that step, however long it takes as long as steps come. Every tenth is told on the way: starting vLLM
    takes a while."""
    while (before := step(job)) < at:
        job.wait_for(lambda: step(job) > before)
        if (now := step(job)) // 10 > max(before, 0) // 10:
            print(f"    step {now}", flush=True)


def finish(job: LocalJob) -> None:
    _reach(job, LAST - 1)
    job.wait_for(lambda: is_complete(job))
    job.finish()
    status = job.status()
    assert status is not None
    say(f"complete after {status.progress.step} steps, {status.restarts} restarts of the trainers")


def is_complete(job: LocalJob) -> bool:
    status = job.status()
    return status is not None and status.phase == Phase.COMPLETE


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
