"""The parent's guard over its ranks: watches, and on a hang gathers what tells why. The launcher owns one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rljob_api.progress import EXIT_STALLED, Ending, Hang, LastWords
from rljob_api.run import Run
from rljob_trainer.checkpoint.directory import Storage

from . import evidence, flight_recorder, history, stacks
from .late import all_wait
from .limits import Limits
from .pulse import Pulse, pulses
from .story import hang, sentence
from .watch import Silence, Watch

NOT_TAKEN = (
    "The volume did not take the stacks of the ranks: it hangs as well, is full, or a newer attempt has it."
)
HEAD_START_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""Longest time between two looks; a tenth of the shortest limit if that is less."""


class Guard:
    """`ranks` are this node's; `folder` is a place in the pod."""

    def __init__(self, run: Run, node: int, ranks: range, folder: Path) -> None:
        self._run, self._node, self._folder = run, node, folder
        self._storage = Storage.of(run)
        self._pulses = dict(zip(ranks, pulses(len(ranks)), strict=True))
        self._pids: Mapping[int, int] = {}
        timeouts = run.spec.stall.phase_timeout_seconds
        known = history.read(self._storage, node)
        self.limits = Limits(timeouts, known, run.spec.weight_sync.timeout_seconds)
        self._kept = history.Keeper(self._storage, node, self.limits.history)
        self._watch = Watch(self.limits, self._pulses, lambda rank: stacks.bytes_moved(self._pids[rank]))
        said = [seconds for _, seconds in timeouts if seconds is not None]
        self._pause = min([LOOK_SECONDS, *(seconds / 10 for seconds in said)])
        self._due = 0.0

    def enter(self, rank: int) -> Pulse:
        """In the child that becomes `rank`, first of all. Its pulse."""
        stacks.listen(self._stack_file(rank))
        flight_recorder.enable(self._folder)
        return self._pulses[rank]

    def look(self, pids: Mapping[int, int]) -> Silence | None:
        """`pids` are the ranks that run (rank → process). A hang, or None; cheap to ask at any time."""
        now = time.monotonic()
        if now < self._due:
            return None
        self._due = now + self._pause
        self._pids = pids
        self._watch.pulses = {rank: self._pulses[rank] for rank in pids}
        found = self._watch.look(now)
        self._kept.keep_grown(self.limits.history, now)
        return found

    def gather(self, silence: Silence, pids: Mapping[int, int]) -> LastWords:
        """Take stacks, leave them on the volume, and say what happened. The ranks still run.

        When all ranks of this node wait for one elsewhere, the node that has it gets the time to speak first.
        """
        taken = stacks.take(pids, {rank: self._stack_file(rank) for rank in pids})
        found = hang(silence, taken)
        story = sentence(found, silence, taken, self.limits)
        gathered = self._folder / "gathered"
        evidence.write(gathered, taken, story)
        flight_recorder.dump(self._folder, gathered, list(pids))
        place = evidence.keep(gathered, self._storage, self._node)
        if self._run.spec.trainer.num_nodes > 1 and all_wait(silence.beats, taken):
            time.sleep(HEAD_START_SECONDS)
        return _words(self._run, found.model_copy(update={"folder": place}), story)

    def _stack_file(self, rank: int) -> Path:
        return self._folder / f"stacks-{rank}"


def _words(run: Run, found: Hang, story: str) -> LastWords:
    where = f"Stacks of all ranks are in {found.folder} on the volume." if found.folder else NOT_TAKEN
    return LastWords(
        ending=Ending.STALLED,
        role="trainer",
        rank=found.rank,
        attempt=run.attempt,
        exit_code=EXIT_STALLED,
        step=found.step,
        message=f"{story} {where}",
        hang=found,
    )
