"""`make bench-kills`: SIGTERM and SIGKILL in every phase, on both backends, and what they cost: time, and nothing else.

Small jobs live through blows that follow from their numbers, until each is complete; then its losses, samples and
weights are compared with those of a job that nothing interrupted. Ranks are forked from a parent that has imported
torch, vLLM's servers are real and stay. Every finished kill is a line in `runs/kills/<code>`: what is ended goes on
there, as long as the code that is killed is the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import REPOSITORY
from bench.blows import Kill, Life, blow
from bench.lives import Job, killed, loopback_run
from bench.result import Check, Result, at_least, at_most
from bench.warm_pod import warm_up
from builders import addition
from e2e.volume import differences
from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.run import Run
from trainer.vllm_server import Servers

FOLDER = REPOSITORY / "runs" / "kills"
KILLED = (
    "crds",
    "operator",
    "trainer_image",
    "requirements",
    "bench/kills.py",
    "bench/blows.py",
    "bench/lives.py",
)
"""What a record is about: one of other files is another record."""
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Backend:
    """What is its own of a backend's jobs."""

    net: int
    """The second number of its loopback addresses."""
    spec: Manifest


BACKENDS = {
    "dtensor": Backend(71, {"dtensor": {"attentionDropout": 0.1}}),
    "megatron": Backend(
        72,
        {
            "backend": "megatron",
            "megatron": {"attentionDropout": 0.1},
            "parallelism": {"tensor": 2},
        },
    ),
}
KILLS = 400
"""On each backend, half of them SIGTERM."""
STEPS = 24
REWARD = """
import time
def score(prompt, completion, answer, item):
    time.sleep(0.001)
    return float(completion.strip() == answer)
"""
"""So slow that a blow can fall in it."""


def measure(scratch: Path) -> Result:
    """Both backends at a time: most of a restart is waiting."""
    folder = FOLDER / code()
    command = [sys.executable, "-m", "bench.kills"]
    running = {
        name: subprocess.Popen([*command, name, folder, str(KILLS)], cwd=REPOSITORY) for name in BACKENDS
    }
    try:
        while None in (codes := [process.poll() for process in running.values()]) and not any(codes):
            time.sleep(1)
    finally:
        for process in running.values():
            stop(process)
    if any(codes):
        raise RuntimeError("kills came to something that must not happen; see above")
    return result({name: Record(folder / name) for name in BACKENDS})


def code() -> str:
    """Names the committed state of what is killed. Raises `RuntimeError` when files differ from it: nobody could say
    later what a record was of."""
    git = ["git", "-C", str(REPOSITORY)]
    ask = partial(subprocess.run, capture_output=True, text=True, check=True, timeout=60)
    if changed := ask([*git, "status", "--porcelain", "--", *KILLED]).stdout:
        raise RuntimeError(f"commit these first, so that the record says what it is of:\n{changed}")
    trees = ask([*git, "rev-parse", *(f"HEAD:{path}" for path in KILLED)]).stdout
    return hashlib.sha256(trees.encode()).hexdigest()[:12]


def stop(process: subprocess.Popen[bytes]) -> None:
    """So that it ends its servers. Not by SIGINT, to which what a shell starts in the background is deaf."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    process.kill()
    process.wait()


def result(records: dict[str, Record]) -> Result:
    """What the records add up to."""
    kills = [kill for record in records.values() for kill in record.kills()]
    lives = [life for record in records.values() for life in record.lives()]
    terms = [kill for kill in kills if kill.blow.how == "SIGTERM"]
    hard = [kill for kill in kills if kill.blow.how == "SIGKILL"]
    return Result(
        "kills",
        [
            at_least("SIGTERMs, both backends together", len(terms), KILLS),
            at_least("SIGKILLs, both backends together", len(hard), KILLS),
            at_most("finished steps that a SIGTERM cost", sum(kill.lost for kill in terms), 0),
            at_most("finished steps that a SIGKILL cost beyond those since the last save", beyond(hard), 0),
            unequal(lives),
        ],
        facts={
            "jobs killed until complete": len(lives),
            "attempts": sum(life.attempts for life in lives),
            "steps that SIGKILLs cost": sum(kill.lost for kill in hard),
            **{f"{name}, kills by phase": phases(record.kills()) for name, record in records.items()},
        },
        comment=" ".join((__doc__ or "").split("\n\n")[1].split())
        + f" Jobs of {STEPS} steps on 2 ranks with attention dropout, `resume.exactness: Exact`, a save after every one"
        " to three steps, in the background in every other job; dtensor on FSDP2, Megatron with tensor 2. Who is hit is"
        " drawn: either rank, or the pod; every fourth blow falls twice.",
    )


def beyond(kills: list[Kill]) -> int:
    """Steps that were lost although a save of them was due and done: in the background one may still be under way."""
    return sum(max(0, kill.lost - allowed(kill.life)) for kill in kills)


def allowed(life: int) -> int:
    """Finished steps between two saves of that life, with those that pass while a save is written."""
    return period(life) * (2 if life % 2 else 1)


def unequal(lives: list[Life]) -> Check:
    differing = [life for life in lives if life.differences]
    return at_most(
        "jobs whose losses, samples or weights differ from the uninterrupted run's", len(differing), 0
    )


def phases(kills: list[Kill]) -> str:
    return ", ".join(f"{phase} {count}" for phase, count in Counter(kill.hit for kill in kills).most_common())


class Record:
    """What one backend's kills came to, a line each, so that they can go on another day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def kills(self) -> list[Kill]:
        return [Kill.model_validate_json(line) for line in _lines(self.folder / "kills.jsonl")]

    def lives(self) -> list[Life]:
        return [Life.model_validate_json(line) for line in _lines(self.folder / "lives.jsonl")]

    def note(self, what: Kill | Life) -> None:
        name = "kills.jsonl" if isinstance(what, Kill) else "lives.jsonl"
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(what.model_dump_json(by_alias=True) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def play(backend: str, folder: Path, kills: int) -> int:
    """Kills on one backend, as many as are missing, and until the last job is complete."""
    record = Record(folder / backend)
    if len(record.kills()) >= kills:
        return 0
    warm_up(backend)
    with served(a_run(backend, 0, record.folder / "cache"), record.folder):
        straight = Job(a_run(backend, 0, record.folder / "cache"), record.folder / "straight")
        if not straight.complete():
            shutil.rmtree(straight.folder, ignore_errors=True)
            begin(straight)
            straight.straight()
        while len(record.kills()) < kills:
            live(backend, record, straight)
    return 0


def live(backend: str, record: Record, straight: Job) -> None:
    """One life, or the rest of it."""
    life = len(record.lives()) + 1
    earlier = sum(before.attempts for before in record.lives())
    job = Job(a_run(backend, life, record.folder / "cache"), record.folder / f"life-{life}", earlier)
    begin(job)
    while True:
        number = len(record.kills())
        due = blow(backend, number)
        if due.phase == "Convert":
            shutil.rmtree(record.folder / "cache" / "megatron", ignore_errors=True)
        began = time.monotonic()
        kill = killed(job, number, life, due)
        if kill is None:
            break
        record.note(kill)
        tell(backend, kill, time.monotonic() - began)
    end = Life(number=life, attempts=job.attempts(), differences=differences(job.volume, straight.volume))
    record.note(end)
    print(
        f"{backend}: job {life} is complete after {end.attempts} attempts: {end.differences or 'the same'}",
        flush=True,
    )
    if not end.differences:
        shutil.rmtree(job.folder)


def tell(backend: str, kill: Kill, seconds: float) -> None:
    blow = kill.blow
    print(
        f"{backend}: kill {kill.number + 1}: {blow.how} to {blow.target} in {kill.hit}, {kill.finished} steps"
        f" finished, {kill.lost} lost, {seconds:.1f} s",
        flush=True,
    )


def begin(job: Job) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "slow_reward.py").write_text(REWARD)


def period(life: int) -> int:
    """Steps between two saves."""
    return 1 + life % 3


def a_run(backend: str, life: int, cache: Path) -> Run:
    spec = RLJob.parse(manifest(backend, life)).spec
    return loopback_run(f"life-{life}", BACKENDS[backend].net, spec, cache)


def manifest(backend: str, life: int) -> Manifest:
    return addition(
        "addition",
        STEPS,
        reward={"python": {"module": "slow_reward", "function": "score"}},
        checkpoint={"savePeriod": period(life), "asyncSave": bool(life % 2)},
        resume={"exactness": "Exact"},
        **BACKENDS[backend].spec,
    )


@contextmanager
def served(run: Run, folder: Path) -> Iterator[None]:
    """The run's vLLM server."""
    os.environ["NRL_MEGATRON_CHECKPOINT_DIR"] = str(folder / "cache" / "megatron")
    servers = Servers(run, folder)
    servers.start(0)
    try:
        yield
    finally:
        servers.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers end with it, as with Ctrl-C
    sys.exit(play(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
