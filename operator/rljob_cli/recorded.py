"""What a job's volume tells of steps that were done: samples, and the curves of every metric. For `rljob replay`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

from rljob_api.run import Run
from rljob_trainer.checkpoint.directory import Directory

from .difference import Curves, Samples
from .errors import UserMistake
from .samples import kept_steps, read


def recorded(storage: Directory, steps: range) -> tuple[Samples, Curves]:
    """Of those of `steps` that are there. Raises `UserMistake` for a file that is damaged."""
    curves = {
        name: {step: value for step, value in curve.items() if step in steps}
        for name, curve in _curves(storage).items()
    }
    return _samples(storage, steps), curves


def that_ran(storage: Directory, runs: Iterator[Run]) -> Run:
    """Of `runs`, which come newest first, the newest that finished a step: one that was refused may stand after it, of
    a spec that nothing came of. Those before are not read: an older version may have left them."""
    from rljob_trainer.checkpoint.basis import read_basis
    from rljob_trainer.checkpoint.facts import of_the_spec, result_facts

    did = read_basis(storage.root)
    wanted = of_the_spec(did.facts) if did else None
    newest = next(runs)
    same = (run for run in chain([newest], runs) if of_the_spec(result_facts(run.spec)) == wanted)
    return next(same, newest)


def refuse_what_never_ran(storage: Directory, step: int) -> None:
    """Raises `UserMistake` for a step after the newest, whose samples are always kept."""
    newest = max(kept_steps(storage.samples), default=0)
    if step > newest:
        raise UserMistake(f"step {step} was never done: the job has come to step {newest}")


def refuse_what_cannot_be_fed(storage: Directory, steps: range) -> None:
    """Raises `UserMistake` unless the samples of all `steps` are there, with their tokens."""
    samples = _samples(storage, steps)
    draw = "let the servers draw them anew, with --draw"
    if missing := [step for step in steps if step not in samples]:
        raise UserMistake(
            f"training on the samples again takes those of steps {steps[0]} to {steps[-1]}, and those of step"
            f" {missing[0]} are not in {storage.samples}: name a step whose samples are kept, or {draw}"
        )
    if bare := [step for step, records in samples.items() if not all(record.drawn for record in records)]:
        raise UserMistake(
            f"the samples of step {min(bare)} were written by an older version, without their tokens: {draw}"
        )


def doubts_of_the_first_steps(storage: Directory, again: Directory, lasting: list[str]) -> str:
    """Why the steps before the first checkpoint do not come out in `again` as they did in `storage`, beside what is
    `lasting`; empty if they do. From a later step on the trainer says so."""
    from rljob_trainer.checkpoint.basis import read_basis, version_doubts

    then, now = read_basis(storage.root), read_basis(again.root)
    if then is None or now is None:
        return "it is not known what the first steps depended on."
    found = [*then.layout_doubts(now.layout), *version_doubts(then.versions, now.versions), *lasting]
    return f"{'; '.join(found)}." if found else ""


def _samples(storage: Directory, steps: range) -> Samples:
    kept = kept_steps(storage.samples)
    return {step: read(kept[step]) for step in steps if step in kept}


def _curves(storage: Directory) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # an attempt that did steps again is no trouble
    events = EventAccumulator(str(storage.tensorboard))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in names}
