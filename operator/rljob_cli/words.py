"""A status in words: pure functions that `display.py` and `rljob status` show."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rljob_api.goodput import Use
from rljob_api.job import RLJob
from rljob_api.progress import Progress
from rljob_api.reasons import Reason
from rljob_api.status import Exactness, Phase, Status
from rljob_operator import times
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
EXACTNESS = {
    Exactness.EXACT: "exactly",
    Exactness.LOSSLESS: "not bit for bit",
    Exactness.BEST_EFFORT: "as well as could be",
}
NEWS = (
    Reason.POD_FAILED,
    Reason.ROLLOUT_REPLACED,
    Reason.CHECKPOINT_PASSED_OVER,
    Reason.GRACE_PERIOD_TOO_SHORT,
    Reason.EXACT,
    Reason.LOSSLESS,
    Reason.BEST_EFFORT,
)
"""Happenings that a person who watches is told in a sentence; the others show in the numbers."""
AT_WORK = (Phase.CONVERTING, Phase.STARTING, Phase.TRAINING)
QUIET_SECONDS = 15.0
"""A phase without a sign of life for longer is pointed out."""


def summary(name: str, status: Status) -> str:
    """One line: phase, step, metrics, and what is wrong."""
    parts = [f"{name}  {status.phase.value}", f"step {status.progress.display}"]
    if status.phase in AT_WORK and status.progress.phase:
        parts.append(status.progress.detail or status.progress.phase.lower())
    parts += [f"{label} {value}" for label, value in shown_metrics(status)]
    parts.append(f"trainers {status.trainer.ready}  rollouts {status.rollout.ready}")
    if status.restarts:
        parts.append(f"restarts {status.restarts}")
    return "  ".join([*parts, *([status.message] if status.message else [])])


def panel(name: str, status: Status, progress: Progress | None, now: float) -> RenderableType:
    """`progress` is newer than the status, and knows the heartbeat; `now` in seconds since the epoch."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("phase", phase_line(status, progress, now))
    rows.add_row("step", step_line(status))
    for label, value in shown_metrics(status):
        rows.add_row(label, value)
    rows.add_row("checkpoint", checkpoint_line(status, now))
    if resumed := resume_line(status):
        rows.add_row("resumed", resumed)
    if spent := goodput_line(status):
        rows.add_row("goodput", spent)
    rows.add_row("trainers", role_line(status.trainer.ready, status.trainer.restarts))
    rows.add_row("rollouts", role_line(status.rollout.ready, status.rollout.restarts))
    title = Text.assemble((name, "bold"), "  ", (status.phase.value, colour(status.phase)))
    bar = ProgressBar(total=max(1, status.progress.total_steps), completed=status.progress.step, width=60)
    wrong = [Text(status.message, style="yellow")] if status.message else []
    return Group(title, Padding(bar, 0), rows, *wrong)  # padded, because a bar alone ends without a new line


def news(job: RLJob, done: Pass) -> list[str]:
    """Sentences on what came about in a pass; why a job failed is said at its end."""
    if done.decision.goal is Goal.FAIL:
        return []
    return [one.note for one in happenings(job.status, done.status) if one.reason in NEWS]


def shown_metrics(status: Status) -> list[tuple[str, str]]:
    """Label and value, in the order of `METRICS`."""
    values = {metric.name: metric.value for metric in status.progress.metrics}
    return [(label, f"{float(values[key]):.4g}") for key, label in METRICS.items() if key in values]


def phase_line(status: Status, progress: Progress | None, now: float) -> str:
    """The trainer's phase, what it is busy with, and when it last gave a sign of life."""
    if progress is None or status.phase not in AT_WORK:
        return status.phase.value
    quiet = now - progress.heartbeat
    alive = f"no sign of life for {duration(quiet)}" if quiet > QUIET_SECONDS else ""
    return "  ".join(part for part in (progress.phase.value, progress.detail, alive) if part)


def step_line(status: Status) -> str:
    remaining = status.progress.estimated_remaining_seconds
    left = "" if not remaining else f", about {duration(remaining)} left"
    return f"{status.progress.display}{left}"


def checkpoint_line(status: Status, now: float) -> str:
    latest = status.checkpoint.latest
    if latest is None:
        return "none yet"
    proof = "verified" if latest.verified else "not verified"
    age = duration(max(0.0, now - times.to_seconds(latest.time)))
    return f"step {latest.step}, {age} ago, {size(latest.bytes)}, {proof}; {status.checkpoint.count} kept"


def resume_line(status: Status) -> str:
    """What the present attempt went on from; empty for a job's first."""
    attempt = status.attempt
    if attempt is None or attempt.from_step is None or attempt.exactness is None:
        return ""
    lost = f", {attempt.lost_steps} steps lost" if attempt.lost_steps else ""
    return f"attempt {attempt.number} from step {attempt.from_step}, {EXACTNESS[attempt.exactness]}{lost}"


def goodput_line(status: Status) -> str:
    """The share of time that counts, and where the rest went, most first; empty until time has passed."""
    known = status.goodput
    if known is None or not known.percent:
        return ""
    rest = [(use, share) for use, share in known.shares if use != Use.PRODUCTIVE and float(share)]
    where = [f"{use} {share}" for use, share in sorted(rest, key=lambda one: -float(one[1]))]
    of_gpus = f" ({known.gpu_percent} % of GPU time)" if known.gpu_percent else ""
    return "; ".join([f"{known.percent} %{of_gpus}", *([", ".join(where)] if where else [])])


def role_line(ready: str, restarts: int) -> str:
    return f"{ready} ready" + (
        f", restarted {restarts} times" if restarts > 1 else ", restarted once" * restarts
    )


def duration(seconds: float) -> str:
    """For people: `42 s`, `3 min 5 s`, `8 h 40 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def colour(phase: Phase) -> str:
    match phase:
        case Phase.TRAINING | Phase.COMPLETE:
            return "green"
        case Phase.FAILED:
            return "red"
        case (
            Phase.PENDING
            | Phase.CONVERTING
            | Phase.STARTING
            | Phase.SUSPENDED
            | Phase.SUSPENDING
            | Phase.RESTARTING
        ):
            return "yellow"
