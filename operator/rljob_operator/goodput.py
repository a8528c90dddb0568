"""`account(before, seen, now)`: what a job's time went into. Pure; the status carries what the next pass needs.

All time from one pass to the next is counted once. What the trainer told of it is believed; the rest goes to what went
on when the last pass looked. While a job stands still nothing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.goodput import Account, Goodput, Seconds, Shares, Use

from . import times


@dataclass(frozen=True)
class Hung:
    """The hang that an attempt ended with."""

    seconds: float
    """Without a sign of life."""
    use: Use
    """What the time would have gone into."""


@dataclass(frozen=True)
class Seen:
    """What this pass saw of the job."""

    doing: Use | None
    """What goes on from now, as far as the trainer does not tell; None while the job stands still."""
    gpus: int
    """That are held from now."""
    attempt: int
    told: Seconds | None = None
    """What the trainer of that attempt has told."""
    ended: bool = False
    """The attempt is over."""
    hung: Hung | None = None


@dataclass(frozen=True)
class _Flow:
    """The time since the last pass, in seconds or in GPU seconds."""

    sure: Seconds
    """What can no longer be lost; nothing that was in hand."""
    work: float
    """What went into steps, finished or not."""
    split: tuple[float, float, float]
    """How all that was in hand, this work with it, divides now: productive, recomputed, still in hand."""
    regained: float
    """What earlier attempts lost and this one made use of."""

    def times(self, factor: float) -> _Flow:
        sure = {use.value: factor * seconds for use, seconds in self.sure.by_use.items()}
        return _Flow(Seconds(**sure), factor * self.work, self.split, factor * self.regained)


def account(before: Goodput | None, seen: Seen, now: float) -> Goodput:
    """`now` in seconds since the epoch. With `before` None the job's time begins now."""
    today = times.to_micro_text(now)
    old = (before.account if before else None) or Account(until=today, attempt=seen.attempt)
    passed = max(0.0, now - times.to_seconds(old.until)) if old.doing else 0.0
    flow = _flow(old, seen, passed)
    closing = seen.ended and old.closed < seen.attempt
    hung = seen.hung if closing else None
    fresh = old.attempt != seen.attempt
    new = Account(
        until=today,
        doing=seen.doing,
        gpus=seen.gpus,
        attempt=seen.attempt,
        told=seen.told or (Seconds() if fresh else old.told),
        closed=seen.attempt if closing else old.closed,
        wall=_added(old.wall, flow, fresh=fresh, closing=closing, hung=hung),
        gpu=_added(
            old.gpu, flow.times(old.gpus), fresh=fresh, closing=closing, hung=_weighed(hung, old.gpus)
        ),
    )
    return _shown(new)


def as_of(known: Goodput, now: float) -> Goodput:
    """What the next pass will count if nothing happens until then: of a job that only waits nothing is written."""
    old = known.account
    if old is None or old.doing not in (Use.WAITING, Use.RESTARTING):
        return known
    return account(known, Seen(old.doing, old.gpus, old.attempt, old.told), now)


def not_counted(known: Goodput) -> Goodput:
    """The same where nobody looked after the job since: the next pass counts from its own time on."""
    return known.model_copy(
        update={"account": known.account and known.account.model_copy(update={"doing": None})}
    )


def _flow(old: Account, seen: Seen, passed: float) -> _Flow:
    """What the trainer told, at most `passed` of it; the rest by what went on."""
    told = seen.told or Seconds()
    known = old.told if old.attempt == seen.attempt and old.told.total <= told.total else Seconds()
    sure = {use: max(0.0, told.by_use[use] - known.by_use[use]) for use in Use}
    done = max(0.0, told.productive - known.productive), max(0.0, told.recomputing - known.recomputing)
    work = max(0.0, sum(done) + told.in_hand - known.in_hand)
    sure |= {Use.PRODUCTIVE: 0.0, Use.RECOMPUTING: 0.0}
    total = sum(sure.values()) + work
    factor = min(1.0, passed / total) if total else 0.0
    sure = {use: factor * seconds for use, seconds in sure.items()}
    rest = max(0.0, passed - sum(sure.values()) - factor * work)
    in_steps = rest if old.doing is Use.PRODUCTIVE else 0.0
    if old.doing is not None and not in_steps:
        sure[old.doing] += rest
    flow = Seconds(**{use.value: seconds for use, seconds in sure.items()})
    regained = max(0.0, told.regained - known.regained)
    return _Flow(flow, factor * work + in_steps, (*done, told.in_hand), regained)


def _added(total: Seconds, flow: _Flow, *, fresh: bool, closing: bool, hung: Hung | None) -> Seconds:
    """`total` with the flow. What an attempt leaves in hand is lost: its successor does it again."""
    if fresh:
        total = _lost(total)
    pool = total.in_hand + flow.work
    weight = sum(flow.split)
    productive, recomputed, _ = (pool * part / weight for part in flow.split) if weight else (0.0, 0.0, 0.0)
    found = {use.value: getattr(total, use.value) + flow.sure.by_use[use] for use in Use}
    found["productive"] += productive
    found["recomputing"] += recomputed
    left = max(0.0, pool - productive - recomputed)
    new = _regained(Seconds(**found, in_hand=left, regained=total.regained), flow.regained)
    if hung:
        new = _stalled(new, hung)
    return _rounded(_lost(new) if closing else new)


def _rounded(spent: Seconds) -> Seconds:
    """To milliseconds: nobody wants to read more of it in a status."""
    return Seconds(**{name: round(seconds, 3) for name, seconds in spent})


def _lost(total: Seconds) -> Seconds:
    return total.model_copy(update={"recomputing": total.recomputing + total.in_hand, "in_hand": 0.0})


def _regained(total: Seconds, seconds: float) -> Seconds:
    """What was lost counts after all, as its rollouts were kept."""
    taken = min(seconds, total.recomputing)
    return total.model_copy(
        update={
            "recomputing": total.recomputing - taken,
            "productive": total.productive + taken,
            "regained": total.regained + taken,
        }
    )


def _stalled(total: Seconds, hung: Hung) -> Seconds:
    """The hang's time is taken from where it was counted."""
    name = "in_hand" if hung.use is Use.PRODUCTIVE else hung.use.value
    counted: float = getattr(total, name)
    taken = min(hung.seconds, counted)
    return total.model_copy(update={name: counted - taken, "stalled": total.stalled + taken})


def _weighed(hung: Hung | None, gpus: int) -> Hung | None:
    return Hung(hung.seconds * gpus, hung.use) if hung else None


def _shown(new: Account) -> Goodput:
    wall, gpu = shares(new.wall), shares(new.gpu) if new.gpu.total else None
    return Goodput(
        percent=wall.productive if new.wall.total else "",
        gpu_percent=gpu.productive if gpu else "",
        shares=wall,
        gpu_shares=gpu,
        account=new,
    )


def shares(spent: Seconds) -> Shares:
    """In tenths of a percent, rounded so that they add up to 100.0: the largest remainders are rounded up."""
    total = spent.total
    if not total:
        return Shares()
    exact = {use: 1000 * seconds / total for use, seconds in spent.by_use.items()}
    tenths = {use: int(value) for use, value in exact.items()}
    short = 1000 - sum(tenths.values())
    for use in sorted(exact, key=lambda use: tenths[use] - exact[use])[:short]:
        tenths[use] += 1
    return Shares(**{use.value: f"{value / 10:.1f}" for use, value in tenths.items()})
