"""How a job is doing, on one screen: what `rljob run`, `rljob status` and `kubectl rljob status` show. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rljob_api.goodput import Shares, Use
from rljob_api.progress import Progress
from rljob_api.status import CheckpointFacts, Phase, RoleStatus, RolloutStatus, Status
from rljob_operator import times
from rljob_operator.goodput import as_of

from .restarts import restart_line, resume_line
from .words import AT_WORK, METRICS, OVER, duration, reward_trend, shown_metrics, size

COLOURS = {Phase.TRAINING: "green", Phase.COMPLETE: "green", Phase.FAILED: "red"}
"""All others, also those of a newer operator, are yellow."""
QUIET_SECONDS = 15.0
"""A phase without a sign of life for longer is pointed out."""


def panel(
    name: str, status: Status, progress: Progress | None, now: float, hints: Sequence[str] = ()
) -> RenderableType:
    """`progress` is newer than the status, and knows the heartbeat; `now` in seconds since the epoch; `hints` say what
    could be done beside the status's message."""
    rows = Table.grid(padding=(0, 2))
    for label, value in _rows(status, progress, now, hints):
        rows.add_row(label, Text(value))  # Text, not str: what a program said may look like markup
    bar = ProgressBar(total=max(1, status.progress.total_steps), completed=status.progress.step, width=60)
    return Group(
        _headline(name, status, hints), Padding(bar, 0, expand=False), rows
    )  # padded: a bar alone ends without a new line


def _headline(name: str, status: Status, hints: Sequence[str]) -> Text:
    """What is wrong and what to do, so that it is read first; where the job stands if nothing is."""
    line = Text.assemble((name, "bold"), "  ", (str(status.phase), COLOURS.get(status.phase, "yellow")))
    if wrong := "\n  ".join(said for said in (status.message, *hints) if said):
        return line.append(f"  {wrong}", "yellow")
    step = step_line(status)
    return line.append(f"  step {step}") if step else line


def _rows(
    status: Status, progress: Progress | None, now: float, hints: Sequence[str]
) -> list[tuple[str, str]]:
    """Label and value; what is not known yet has no row."""
    rows = (
        ("step", step_line(status) if status.message or hints else ""),
        ("phase", phase_line(status, progress, now)),
        *_metric_rows(status),
        ("checkpoint", checkpoint_line(status, now)),
        ("trainers", role_line(status.trainer)),
        ("last restart", restart_line(status)),
        ("resumed", resume_line(status)),
        ("rollouts", rollout_line(status.rollout)),
        ("goodput", goodput_line(status, now)),
        ("of GPU time", gpu_line(status, now)),
    )
    return [(label, value) for label, value in rows if value]


def _metric_rows(status: Status) -> list[tuple[str, str]]:
    trend = reward_trend(status)
    moved = {METRICS["reward"]: f" ({trend})"} if trend else {}
    return [(label, value + moved.get(label, "")) for label, value in shown_metrics(status)]


def phase_line(status: Status, progress: Progress | None, now: float) -> str:
    """The trainer's phase, what it is busy with, and when it last gave a sign of life; empty while none is expected."""
    if status.phase not in AT_WORK:
        return ""
    if progress is None:
        return "  ".join(part for part in (status.progress.phase, status.progress.detail) if part)
    quiet = now - progress.heartbeat
    alive = f"no sign of life for {duration(quiet)}" if quiet > QUIET_SECONDS else ""
    return "  ".join(part for part in (progress.phase.value, progress.detail, alive) if part)


def step_line(status: Status) -> str:
    done = status.progress
    share = f" ({100 * done.step // done.total_steps} %)" if done.total_steps else ""
    remaining = done.estimated_remaining_seconds
    left = "" if not remaining else f", about {duration(remaining)} left"
    return f"{done.display}{share}{left}" if done.display else ""


def checkpoint_line(status: Status, now: float) -> str:
    latest = status.checkpoint.latest
    if latest is None:
        return "none yet"
    age = duration(max(0.0, now - times.to_seconds(latest.time)))
    facts = f"step {latest.step}, {age} ago, {size(latest.bytes)}, {proof(status, latest)}"
    return f"{facts}, {_holds(latest)}; {status.checkpoint.count} kept"


def proof(status: Status, latest: CheckpointFacts) -> str:
    """Once the job is over nobody reads back any more what was saved last."""
    not_read = "not read back" if status.phase in OVER else "not read back yet"
    return "verified" if latest.verified else "damaged" if latest.damaged else not_read


def _holds(latest: CheckpointFacts) -> str:
    """What a restart needs beside the weights."""
    match latest.has_rng, latest.has_optimizer:
        case True, True:
            return "RNG and optimizer included"
        case True, False:
            return "RNG included, optimizer not"
        case False, True:
            return "optimizer included, RNG not"
        case _:
            return "weights alone"


def goodput_line(status: Status, now: float) -> str:
    """The share of time that counts, and where the rest went, most first; empty until time has passed."""
    known = status.goodput and as_of(status.goodput, now)
    return _split(known.percent, known.shares) if known else ""


def gpu_line(status: Status, now: float) -> str:
    """The same of GPU time; empty for a job without GPUs."""
    known = status.goodput and as_of(status.goodput, now)
    return _split(known.gpu_percent, known.gpu_shares) if known and known.gpu_shares else ""


def _split(percent: str, shares: Shares) -> str:
    if not percent:
        return ""
    rest = [(use, share) for use, share in shares if use != Use.PRODUCTIVE and float(share)]
    where = [f"{use} {share}" for use, share in sorted(rest, key=lambda one: -float(one[1]))]
    return "; ".join([f"{percent} %", *([", ".join(where)] if where else [])])


def role_line(role: RoleStatus) -> str:
    often = "once" if role.restarts == 1 else f"{role.restarts} times"
    return f"{role.ready} ready" + (f", restarted {often}" if role.restarts else "")


def rollout_line(rollout: RolloutStatus) -> str:
    """The servers, the weights that they answer with, and how those reach them."""
    by = f" by {rollout.transport}" if rollout.transport else ""
    weights = "" if rollout.weight_version is None else f", weights v{rollout.weight_version}{by}"
    return f"{role_line(rollout)}{weights}"
