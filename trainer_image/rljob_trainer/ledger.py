"""What an attempt's time went into, as rank 0 sees it: `status.goodput` is made from it. The board keeps it. Pure."""

from __future__ import annotations

from rljob_api.goodput import Seconds, Use
from rljob_api.progress import TrainPhase, use_of


class Ledger:
    """Begun at `now`, in seconds of any clock, in a first phase."""

    def __init__(self, phase: TrainPhase, now: float) -> None:
        self._phase, self._since = phase, now
        self._spent = Seconds()
        self._repeats_until = 0
        self._regained = 0.0
        """By the step in hand."""

    def repeat_until(self, step: int) -> None:
        """Steps up to this one had been finished before."""
        self._repeats_until = step

    def regain(self, seconds: float) -> None:
        """The step in hand uses what an attempt before spent so long on."""
        self._regained = seconds

    def enter(self, phase: TrainPhase, now: float) -> None:
        """From `now` on this phase is under way."""
        self._spent, self._since = self.spent(now), now
        self._phase = phase

    def finish_step(self, step: int, now: float) -> None:
        """What was in hand counts from now on, or was done before."""
        self.enter(self._phase, now)
        repeats = step <= self._repeats_until
        use = Use.RECOMPUTING if repeats else Use.PRODUCTIVE
        counted = getattr(self._spent, use.value) + self._spent.in_hand
        # What a step that is repeated uses counted already when it was finished the first time.
        regained = self._spent.regained + (0.0 if repeats else self._regained)
        self._regained = 0.0
        self._spent = self._spent.model_copy(
            update={use.value: counted, "in_hand": 0.0, "regained": regained}
        )

    def spent(self, now: float) -> Seconds:
        """So far, with the phase under way."""
        use = use_of(self._phase)
        name = "in_hand" if use is Use.PRODUCTIVE and self._phase is not TrainPhase.EVALUATE else use.value
        seconds = getattr(self._spent, name) + max(0.0, now - self._since)
        return self._spent.model_copy(update={name: seconds})
