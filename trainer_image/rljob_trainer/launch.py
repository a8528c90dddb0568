"""The parent of a node's training ranks: forks them, forwards SIGTERM, and reports how the first failure came about.

Torch is imported once here and shared by all ranks through fork, which starts a rank in a second. torchrun is not
used: it exits 1 after SIGTERM even when every rank has saved, and kills ranks that take longer than 30 s to save.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from rljob_api.progress import EXIT_COMPLETE, EXIT_FAILED, EXIT_PREEMPTED, Ending, LastWords
from rljob_api.run import Run
from rljob_trainer.forking import leave_cuda_alone
from rljob_trainer.memory import freeze_imports, keep_freed_memory
from rljob_trainer.stall.evidence import STORAGE_SECONDS, within
from rljob_trainer.stall.guard import Guard
from rljob_trainer.words import read_last_words, write_last_words

EXIT_FOLLOWED = 120
"""Inside a pod only: this rank ended because rank 0 did."""

PEER_GRACE_SECONDS = 5.0
"""How long the others may take to end by themselves once a rank has failed: they hang in collectives with the dead."""
KILLED_SECONDS = 60.0
"""How long a killed rank may take to be gone. One that is still there is kept in the kernel by a volume that hangs, and
goes whenever that answers."""
POLL_SECONDS = 0.02


@dataclass
class Gang:
    """This node's ranks, as their parent sees them."""

    ranks: dict[int, int]
    """Process id → rank, while it runs."""
    codes: dict[int, int] = field(default_factory=dict)
    """Rank → exit code (128 + signal for a killed one), in the order of their ends."""

    @property
    def processes(self) -> dict[int, int]:
        """Rank → process id."""
        return {rank: pid for pid, rank in self.ranks.items()}

    @property
    def told_to_go(self) -> bool:
        """Whether a rank ended because of SIGTERM, saved or not."""
        return EXIT_PREEMPTED in self.codes.values()

    @property
    def broken(self) -> bool:
        """Whether a rank ended otherwise than well: the others may hang in collectives with it."""
        return any(code not in {EXIT_COMPLETE, EXIT_PREEMPTED} for code in self.codes.values())

    @property
    def first_failure(self) -> int | None:
        """The rank that failed first, not counting those that only followed: rank 0, or one that was told to go before
        it could note that and tell the others."""
        excused = {EXIT_COMPLETE, EXIT_PREEMPTED, EXIT_FOLLOWED} | (
            {EXIT_FAILED} if self.told_to_go else set()
        )
        failed = [rank for rank, code in self.codes.items() if code not in excused]
        followed = [rank for rank, code in self.codes.items() if code == EXIT_FOLLOWED]
        return next(iter(failed + ([] if self.told_to_go else followed)), None)

    @property
    def speaker(self) -> int:
        """Whose end is the pod's end."""
        if self.first_failure is not None:
            return self.first_failure
        told = [rank for rank, code in self.codes.items() if code == EXIT_PREEMPTED]
        return min(told or self.codes)

    def give_up(self) -> None:
        """Wait for nobody any longer: the ranks that run were killed, and the kernel does not let them go."""
        self.codes |= dict.fromkeys(self.ranks.values(), 128 + signal.SIGKILL)
        self.ranks.clear()

    def signal(self, number: int) -> None:
        for pid in list(self.ranks):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def launch(run: Run, node: int) -> int:
    """Run the ranks of `node` to their end; returns the pod's exit code and leaves last words."""
    # Imports take seconds, and nothing is there to be saved. A pod's first process is deaf without a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_PREEMPTED))
    _import_once(run)
    reports = Path(tempfile.mkdtemp(prefix="rljob-ranks-"))
    try:
        ranks = _ranks_of(run, node)
        guard = Guard(run, node, ranks, reports)
        gang = _fork_all(run, ranks, guard, reports)
        words = _wait(gang, guard) or _last_words(run, gang, reports, ranks[0])
        _leave(words, Path(run.paths.storage))
        return words.exit_code
    finally:
        shutil.rmtree(reports, ignore_errors=True)


def _import_once(run: Run) -> None:
    """What every rank needs, imported before the fork. Nothing here may start a thread or touch a GPU."""
    leave_cuda_alone()
    for module in (
        f"rljob_trainer.backend.{run.spec.chosen_backend}.backend",
        "rljob_trainer.train",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
    ):
        import_module(module)
    keep_freed_memory()
    freeze_imports()


def _ranks_of(run: Run, node: int) -> range:
    per_node = run.spec.trainer.ranks_per_node
    return range(node * per_node, (node + 1) * per_node)


def _fork_all(run: Run, ranks: range, guard: Guard, reports: Path) -> Gang:
    """A SIGTERM that comes meanwhile waits until it can reach all of them."""
    gang = Gang({})
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for local_rank, rank in enumerate(ranks):
        gang.ranks[_fork(run, rank, local_rank, guard, reports)] = rank
    signal.signal(signal.SIGTERM, lambda *_: gang.signal(signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    return gang


def _fork(run: Run, rank: int, local_rank: int, guard: Guard, reports: Path) -> int:
    if pid := os.fork():
        return pid
    code = EXIT_FAILED
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    try:
        from rljob_trainer.train import main

        code = main(run, rank, local_rank, reports / f"{rank}.json", guard.enter(rank))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(gang: Gang, guard: Guard) -> LastWords | None:
    """Until every rank has ended. Once one has failed, the others are given a moment and then killed; when they hang,
    they are killed at once, and the words say where they hung."""
    deadline: float | None = None
    killed = False
    words: LastWords | None = None
    while gang.ranks:
        if ended := reaped():
            for pid, code in ended:
                # Another tried the volume in vain, or is an orphan, which come to a pod's first process.
                if pid in gang.ranks:
                    _ended(gang, pid, code)
            if deadline is None and gang.broken:
                deadline = time.monotonic() + PEER_GRACE_SECONDS
        elif deadline is None and (silence := guard.look(gang.processes)):
            words = guard.gather(silence, gang.processes)
            deadline = time.monotonic()
        elif deadline and time.monotonic() > deadline:
            if killed:
                gang.give_up()
            gang.signal(signal.SIGKILL)
            killed, deadline = True, time.monotonic() + KILLED_SECONDS
        else:
            time.sleep(POLL_SECONDS)
    return words


def reaped() -> list[tuple[int, int]]:
    """Process ids and exit codes of the children that have ended since the last look, who was ended by SIGKILL first:
    others may have failed for want of it in the same moment, and the kernel names children as old as they are."""
    ended = []
    with suppress(ChildProcessError):  # that was the last one
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append((found[0], os.waitstatus_to_exitcode(found[1])))
    return sorted(ended, key=lambda one: one[1] != -signal.SIGKILL)


def _ended(gang: Gang, pid: int, code: int) -> None:
    gang.codes[gang.ranks.pop(pid)] = code if code >= 0 else 128 - code
    if code == -signal.SIGTERM:
        # It was told to go before it could note that and tell the others.
        gang.signal(signal.SIGTERM)


def _leave(words: LastWords, storage: Path) -> None:
    """In the termination message, and on the volume unless that hangs: a child tries, which may be given up."""
    within(STORAGE_SECONDS, "The last words", lambda: write_last_words(words, storage))


def _last_words(run: Run, gang: Gang, reports: Path, leader: int) -> LastWords:
    """The words of the rank that failed first, or rank 0's; with rank 0's progress in any case."""
    speaker = gang.speaker
    code = gang.codes[speaker]
    own = read_last_words(reports / f"{speaker}.json")
    lead = read_last_words(reports / f"{leader}.json")
    if own is None:
        ending = Ending.PREEMPTED if code == EXIT_PREEMPTED else Ending.FAILED
        own = LastWords(ending=ending, role="trainer", message=_silent_end(speaker, code))
    if code == EXIT_FOLLOWED:
        code = EXIT_FAILED
    return own.model_copy(
        update={
            "rank": speaker,
            "attempt": run.attempt,
            "exit_code": code,
            "followed": gang.codes[speaker] == EXIT_FOLLOWED,
            "progress": lead.progress if lead else None,
        }
    )


def _silent_end(rank: int, code: int) -> str:
    """A rank that left no words was killed from outside, or crashed below Python."""
    if code == EXIT_PREEMPTED:
        return "told to go before training began"
    if code > 128:
        name = signal.Signals(code - 128).name
        hint = "; the kernel does that when memory runs out" if name == "SIGKILL" else ""
        return f"rank {rank} was ended by {name}{hint}"
    return f"rank {rank} exited with code {code} and left no message; see its log"
