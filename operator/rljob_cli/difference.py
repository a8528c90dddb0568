"""Where two runs of the same steps part: the first number that differs, and the samples behind it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rljob_api.samples import SampleRecord

Curves = Mapping[str, Mapping[int, float]]
"""Metric, in the order in which a step computes them → step → value."""
Samples = Mapping[int, list[SampleRecord]]
"""Step → what was drawn in it, in order."""

DRAWN = ("prompt", "text", "tokens", "finish_reason", "weight_version")
SCORED = ("reward", "advantage")
"""Fields of a sample, in the order in which they come about; its tokens stand between."""
SPEED = frozenset({"tokens_per_second", "step_seconds"})
"""What no second run repeats."""
SHOWN = 3
"""Samples behind a number of a whole step."""


@dataclass(frozen=True)
class Difference:
    """`was` in the first run, `now` in the second."""

    step: int
    what: str
    was: str
    now: str
    samples: tuple[SampleRecord, ...] = ()
    """The sample as it was and as it is; empty if the number is one of the whole step."""
    behind: tuple[SampleRecord, ...] = ()
    """Of a number of the whole step: samples that it was computed from, those first that weigh most in it."""


def first_difference(was: tuple[Samples, Curves], now: tuple[Samples, Curves]) -> Difference | None:
    """The earliest; of one step what was drawn comes before what was computed from it. Only what both have counts."""
    (samples_was, curves_was), (samples_now, curves_now) = was, now
    drawn = samples_was.keys() & samples_now.keys()
    computed = {step for name in curves_was for step in curves_was[name].keys() & _curve(curves_now, name)}
    for step in sorted(drawn | computed):
        found = _between_samples(step, samples_was.get(step, []), samples_now.get(step, []))
        if step in drawn and found:
            return found
        if found := _between_numbers(step, curves_was, curves_now):
            return replace(found, behind=_heaviest(samples_was.get(step, [])))
    return None


def _between_samples(step: int, was: list[SampleRecord], now: list[SampleRecord]) -> Difference | None:
    for old, new in zip(was, now, strict=False):
        for name, before, after in _pairs(old, new):
            if not _same(before, after):
                what = f"{name} of prompt {old.prompt_index}, completion {old.number}"
                return Difference(step, what, str(before), str(after), (old, new))
    if len(was) != len(now):
        return Difference(step, "number of samples", str(len(was)), str(len(now)))
    return None


def _pairs(old: SampleRecord, new: SampleRecord) -> Iterator[tuple[str, object, object]]:
    """What of a sample is compared, then and now. A file of an older version does not have the tokens."""
    yield from ((field, getattr(old, field), getattr(new, field)) for field in DRAWN)
    if old.drawn and new.drawn and old.drawn != new.drawn:
        yield from _by_token("token", old.token_ids, new.token_ids)
        yield from _by_token("log-probability of token", old.logprobs, new.logprobs)
    yield from ((field, getattr(old, field), getattr(new, field)) for field in SCORED)


def _by_token(
    name: str, old: Sequence[object], new: Sequence[object]
) -> Iterator[tuple[str, object, object]]:
    for position, (before, after) in enumerate(zip(old, new, strict=True)):
        yield f"{name} {position}", before, after


def _between_numbers(step: int, was: Curves, now: Curves) -> Difference | None:
    for name in _compared(was):
        before, after = was[name].get(step), _curve(now, name).get(step)
        if before is not None and after is not None and not _same(before, after):
            return Difference(step, name, repr(before), repr(after))
    return None


def _heaviest(samples: list[SampleRecord]) -> tuple[SampleRecord, ...]:
    """By their advantage, which the loss weighs them with."""
    return tuple(sorted(samples, key=lambda sample: -abs(sample.advantage))[:SHOWN])


def _compared(curves: Curves) -> Iterable[str]:
    return (name for name in curves if name not in SPEED)


def _curve(curves: Curves, name: str) -> Mapping[int, float]:
    return curves.get(name, {})


def _same(before: object, after: object) -> bool:
    """Bit for bit; NaN equals NaN."""
    both = isinstance(before, float) and isinstance(after, float)
    return before == after or (both and math.isnan(before) and math.isnan(after))  # type: ignore[arg-type]  # floats
