"""A status in words: one line of it, what is news in it, and its numbers. `panel.py` has the screen."""

from __future__ import annotations

from rljob_api.base import many
from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import Phase, Status
from rljob_operator.decide import Goal
from rljob_operator.happenings import happenings
from rljob_operator.reconcile import Pass

METRICS = {
    "reward": "reward",
    "accuracy": "held-out accuracy",
    "kl": "KL",
    "token_mult_prob_error": "mismatch",
    "tokens_per_second": "tokens/s",
}
"""Those shown, by the trainer's key; all of them are in the status."""
NEWS = (
    Reason.POD_FAILED,
    Reason.ROLLOUT_REPLACED,
    Reason.CHECKPOINT_PASSED_OVER,
    Reason.SAVE_FAILED,
    Reason.GRACE_PERIOD_TOO_SHORT,
    Reason.EXACT,
    Reason.LOSSLESS,
    Reason.BEST_EFFORT,
)
"""Happenings that a person who watches is told in a sentence; the others show in the numbers."""
AT_WORK = (Phase.CONVERTING, Phase.STARTING, Phase.TRAINING)
OVER = (Phase.COMPLETE, Phase.FAILED)


def summary(name: str, status: Status) -> str:
    """One line: phase, step, metrics, and what is wrong."""
    parts = [f"{name}  {status.phase}"]
    if status.progress.display:
        parts.append(f"step {status.progress.display}")
    if status.phase in AT_WORK and status.progress.phase:
        said = status.progress.detail in status.message
        parts.append(status.progress.phase.lower() if said else status.progress.detail)
    parts += [f"{label} {value}" for label, value in shown_metrics(status)]
    if status.phase not in OVER:  # else each pod that goes would tell of the end once more
        parts.append(f"trainers {status.trainer.ready}  rollouts {status.rollout.ready}")
    if status.restarts:
        parts.append(f"restarts {status.restarts}")
    return "  ".join([*parts, *([status.message] if status.message else [])])


def news(job: RLJob, done: Pass) -> list[str]:
    """Sentences on what came about in a pass; why a job failed is said at its end."""
    if done.decision.goal is Goal.FAIL:
        return []
    return [one.note for one in happenings(job.status, done.status) if one.reason in NEWS]


def shown_metrics(status: Status) -> list[tuple[str, str]]:
    """Label and value, in the order of `METRICS`."""
    values = _values(status)
    return [(label, f"{values[key]:.4g}") for key, label in METRICS.items() if key in values]


def reward_trend(status: Status) -> str:
    """For example `+0.02 over 50 steps`; empty where the trainer told none."""
    values = _values(status)
    change, steps = values.get("reward_change"), values.get("reward_change_steps")
    return "" if change is None or steps is None else f"{change:+.2g} over {many(round(steps), 'step')}"


def _values(status: Status) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in status.progress.metrics}


def duration(seconds: float) -> str:
    """For people: `42 s`, `3 min 5 s`, `8 h 40 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
