"""A job in the middle of its run, as its status and its trainer tell it, for everything that shows one."""

from __future__ import annotations

from typing import Any

from builders import NOW, a_progress, a_status
from rljob_api.progress import Progress, TrainPhase
from rljob_api.status import (
    AttemptStatus,
    CheckpointFacts,
    CheckpointStatus,
    Exactness,
    Failure,
    Metric,
    Phase,
    ProgressStatus,
    RoleStatus,
    RolloutStatus,
    Status,
)
from rljob_operator import times

METRICS = {
    "reward": "0.61131",
    "reward_change": "0.0213",
    "reward_change_steps": "23",
    "val:accuracy": "0.5",
    "accuracy": "0.624",
    "kl": "NaN",
    "step_time": "0.7",
}
CHECKPOINT = CheckpointFacts(
    step=20,
    time=times.to_text(NOW - 185),
    path="/storage/checkpoints/step_20",
    bytes=3 * 2**20,
    verified=True,
    has_rng=True,
    has_optimizer=True,
    layout="tp1-pp1-dp2",
)


def training(**changes: Any) -> Status:
    """Step 24 of 60, after one restart of the trainers and two of servers."""
    facts: dict[str, Any] = {
        "phase": Phase.TRAINING,
        "trainer": RoleStatus(replicas=1, ready_replicas=1, ready="1/1", restarts=1),
        "rollout": RolloutStatus(
            replicas=2, ready_replicas=1, ready="1/2", restarts=2, weight_version=24, transport="gloo"
        ),
        "progress": ProgressStatus(
            step=24,
            total_steps=60,
            display="24/60",
            phase="Generate",
            estimated_remaining_seconds=3725,
            metrics=[Metric(name=name, value=value) for name, value in METRICS.items()],
        ),
        "checkpoint": CheckpointStatus(latest=CHECKPOINT, count=2),
        "restarts": 1,
        "attempt": AttemptStatus(
            number=2, reason="PodFailed", from_step=20, lost_steps=3, exactness=Exactness.EXACT
        ),
        "failures": [Failure(role="trainer", rank=1, attempt=1, exit_code=137, message="no memory left")],
    }
    return a_status(2).model_copy(update=facts | changes)


def generating(quiet_seconds: float = 0.0) -> Progress:
    """What rank 0 tells; its last sign of life is so long ago."""
    beat = NOW - quiet_seconds
    return a_progress(24, 2, phase=TrainPhase.GENERATE, heartbeat=beat, detail="17 of 64 prompts")
