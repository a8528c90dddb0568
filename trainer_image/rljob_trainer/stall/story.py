"""What is told of a hang: the sentence for the last words, and the facts beside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rljob_api.progress import SETTING_UP, Hang, TrainPhase

from .late import all_wait, late, where
from .limits import Limits
from .stacks import Stack
from .watch import Silence

MEANING = {
    TrainPhase.GENERATE: "rollout servers give no answers",
    TrainPhase.EVALUATE: "rollout servers give no answers",
    TrainPhase.SYNC: "rollout servers do not take the new weights",
    TrainPhase.REWARD: "the reward does not return",
    TrainPhase.TRAIN: "the update does not get on",
    TrainPhase.LOAD: "the volume gives nothing",
    TrainPhase.SAVE: "the volume takes nothing",
    TrainPhase.EXPORT: "the volume takes nothing",
}
"""What it most likely means that this phase is silent, unless the late rank's process tells otherwise."""


def hang(silence: Silence, stacks: Mapping[int, Stack]) -> Hang:
    """The facts. The phase is that of the late rank, if it is in one."""
    rank = late(silence.beats, stacks)
    beat = silence.beats.get(rank)
    steps = [one.step for one in silence.beats.values()]
    return Hang(
        phase=(beat.phase if beat else None) or silence.phase,
        step=max(steps, default=0),
        seconds=round(silence.seconds, 1),
        rank=rank,
        frame=where(stacks[rank]),
    )


def sentence(found: Hang, silence: Silence, stacks: Mapping[int, Stack], limits: Limits) -> str:
    """For example: `step 13 hung in Reward: the reward does not return. Rank 0 is late, at score (rewards.py:5), …`."""
    stack, beat = stacks[found.rank], silence.beats.get(found.rank)
    at = f", at {found.frame}" if found.frame else ""
    busy = f", busy with {beat.detail!r}" if beat and beat.detail else ""
    what = (
        f"{found.phase} hung" if found.phase in SETTING_UP else f"step {found.step + 1} hung in {found.phase}"
    )
    return (
        f"{what}: {_meaning(found, silence, stack, stacks)}. "
        f"Rank {found.rank} is late{at}{busy}; no sign of life for {found.seconds:g} s. "
        f"{_limit(silence, limits)}"
    )


def _meaning(found: Hang, silence: Silence, stack: Stack, stacks: Mapping[int, Stack]) -> str:
    if stack.state == "T":
        return f"the process of rank {found.rank} is stopped"
    if stack.state == "D":
        return f"the process of rank {found.rank} is stuck in the kernel, most likely in storage"
    if found.phase is TrainPhase.TRAIN and len(stacks) > 0 and all_wait(silence.beats, stacks):
        return "all ranks of this node wait in collectives"
    return MEANING.get(found.phase, "nothing happens")


def _limit(silence: Silence, limits: Limits) -> str:
    field = f"stall.phaseTimeoutSeconds.{silence.phase.value.lower()}"
    how = f"learnt; {field} sets it" if limits.is_learnt(silence.phase) else field
    return f"The limit is {silence.limit:g} s ({how})."
