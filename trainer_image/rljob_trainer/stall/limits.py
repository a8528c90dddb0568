"""How long a phase may be silent: what `spec.stall` says, else learnt from the job's own history. Pure.

Learnt limits err on the side of patience. A hang that is found late costs as much time as it took; a slow phase that is
taken for a hang costs a restart, and after `maxRestarts` of them the job. Ten times the longest silence so far leaves
room for answers that grow in the course of training and for a neighbour's load; five minutes keep tiny jobs from being
judged by their milliseconds; an hour is what a first compilation, a cold cache and a large model may take together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rljob_api.progress import TrainPhase
from rljob_api.stall import PhaseTimeouts
from rljob_trainer.rollout.client import PROBE_SECONDS

MULTIPLE = 10
LEAST_SECONDS = 300.0
FIRST_SECONDS = 3600.0
FIRST_CONVERT_SECONDS = 4 * 3600.0
ASKING = (TrainPhase.GENERATE, TrainPhase.EVALUATE, TrainPhase.SYNC)
"""In these phases rank 0 itself gives up on servers that are silent for the limit. It gets twice as long."""
SERVERS_FIRST_SECONDS = PROBE_SECONDS + 10
"""At least so much longer: before it asks a server anything, it waits this long for one that does not even say which
weights it has."""

History = dict[TrainPhase, float]
"""Longest silence in seconds that was followed by a sign of life, by phase."""


@dataclass
class Limits:
    """Of one job."""

    timeouts: PhaseTimeouts
    history: History = field(default_factory=dict)
    sync_seconds: int = 0
    """`weightSync.timeoutSeconds`, which a learnt limit has to leave room for."""

    def of(self, phase: TrainPhase) -> float:
        """Seconds of silence that the phase may have."""
        if (said := getattr(self.timeouts, phase.value.lower(), None)) is not None:
            return float(said)
        seen = self.history.get(phase)
        if seen is not None:
            return max(self._least(phase), MULTIPLE * seen)
        return FIRST_CONVERT_SECONDS if phase is TrainPhase.CONVERT else FIRST_SECONDS

    def of_gang(self, phase: TrainPhase) -> float:
        """The same for the gang as a whole, which answers for what its servers do only after them."""
        limit = self.of(phase)
        return limit + max(limit, SERVERS_FIRST_SECONDS) if phase in ASKING else limit

    def is_learnt(self, phase: TrainPhase) -> bool:
        return getattr(self.timeouts, phase.value.lower(), None) is None

    def note(self, phase: TrainPhase, silence: float) -> None:
        """That long the phase was silent, and then went on."""
        self.history[phase] = max(silence, self.history.get(phase, 0.0))

    def _least(self, phase: TrainPhase) -> float:
        return max(LEAST_SECONDS, self.sync_seconds) if phase is TrainPhase.SYNC else LEAST_SECONDS
