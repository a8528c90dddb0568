"""What a new attempt goes on from, decided on rank 0 before anything is loaded; the others are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rljob_api.base import many
from rljob_api.checkpoint import ResumePolicy
from rljob_api.job import JobSpec
from rljob_api.manifest import CheckpointManifest, Layout, Versions
from rljob_api.run import Run
from rljob_api.status import CheckpointFacts, Exactness
from rljob_trainer.errors import Unmet

from .basis import Basis, forget_basis
from .directory import Storage
from .durable import StorageError, storage_errors
from .facts import FACTS_FILE, Facts
from .initial import Beginning, beginning
from .past import Past, StepNotes, read_past
from .resume import UNKNOWN, ResumePlan, decide
from .save import facts_of
from .state import LoopState
from .verify import Problem, first_whole, problem_of, read_manifest
from .versions import versions_here


@dataclass(frozen=True)
class Found:
    """What there is to go on from, whatever is decided about it."""

    newest: CheckpointFacts | None
    """The job's own newest that is whole."""
    count: int
    """Of those that are kept."""
    skipped: tuple[str, ...]
    """Sentences on those that were passed over."""


def plan_resume(
    storage: Storage,
    run: Run,
    layout: Layout,
    versions: Versions | None = None,
    tell: Callable[[Found], None] = lambda _: None,
) -> ResumePlan:
    """The newest checkpoint of this job that verifies; broken ones are moved to `quarantine/` and named. Without any,
    the one that `initialCheckpoint` names. `tell` hears what was found before it is judged: a resume that is refused
    has put them aside all the same.

    Raises `Mistake` if the checkpoint is of another model or backend, `Unmet` if the resume would be less exact than
    `resume.exactness`, or not load what `loadRng` or `loadOptimizer` ask for, and `StorageError` if the volume cannot
    be read; it then stays as it was for the next attempt.
    """
    with storage_errors(storage.root, "Looking for a checkpoint"):
        own, skipped = _newest_whole(storage, run)
        newest = facts_of(read_manifest(own), own, verified=True) if own else None
        count = len(storage.steps())
        tell(Found(newest, count, tuple(skipped)))
        begun = beginning(run, storage.root) if own is None else Beginning()
        then, now = read_past(storage), versions or versions_here(run)
        past = begun.past(then)
        plan = _planned(storage, run, layout, now, own or begun.path, past)
        notes = StepNotes(storage, Basis.of(run.spec, layout, now), plan.furthest)
        if past == then:
            begun.note(storage.root)
            notes.begin(plan.step)
        else:  # as long as the new beginning is not noted, the next attempt judges by the old one, as this one did
            forget_basis(storage.root)
            notes.begin(plan.step)
            begun.note(storage.root)
    return replace(plan, skipped=(*skipped, *begun.told), checkpoint_count=count, past=past)


def judged_again(
    plan: ResumePlan, storage: Storage, run: Run, layout: Layout, versions: Versions
) -> ResumePlan:
    """The same plan with what may be claimed of it beside the rollout servers, which `versions` know of by now: they
    come up while ranks load. Raises `Unmet` as `plan_resume` does.
    """
    with storage_errors(storage.root, "Looking at the checkpoint again"):
        again = _planned(storage, run, layout, versions, plan.directory, plan.past)
    return replace(plan, exactness=again.exactness, reason=again.reason, doubts=again.doubts)


def _planned(  # noqa: PLR0917 - as of `decide`
    storage: Storage, run: Run, layout: Layout, versions: Versions, path: Path | None, past: Past
) -> ResumePlan:
    """By the checkpoint of `path`, which is whole; None begins at step 0."""
    if path is None:
        plan = _from_the_start(run.spec, past, past.doubts(0, run.spec, layout, versions))
    else:
        found = read_manifest(path)
        then: Facts = json.loads((path / FACTS_FILE).read_text())
        spec = run.spec if path.parent == storage.checkpoints else _begins_with(run.spec)
        plan = decide(found, then, spec, layout, versions, past, drawn=not run.recorded)
        plan = _located(plan, path, found, run)
    _refuse_less(plan, run.spec)
    return plan


def _begins_with(spec: JobSpec) -> JobSpec:
    """R1: the first load of another job's checkpoint takes its random states over only if told to."""
    rng = spec.checkpoint.load_rng or False
    return spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update={"load_rng": rng})})


def _newest_whole(storage: Storage, run: Run) -> tuple[Path | None, list[str]]:
    """And a sentence for each that is newer; those are moved aside, for their names will be needed."""
    found, wrong = first_whole(reversed(storage.steps()), lambda step: _why_not(storage, run, step))
    if found is None:
        _refuse_unreadable(storage, wrong)
    return None if found is None else storage.checkpoint(found), _set_aside(storage, wrong)


def _set_aside(storage: Storage, wrong: dict[int, Problem]) -> list[str]:
    return [
        f"The checkpoint of step {step} was passed over: {problem.told}. It was moved to"
        f" {storage.quarantine_checkpoint(step)}."
        for step, problem in wrong.items()
    ]


def _refuse_unreadable(storage: Storage, wrong: dict[int, Problem]) -> None:
    """A volume that fails for a while must not cost all steps: rather none is taken than step 0."""
    for step, problem in wrong.items():
        if problem.unreadable:
            raise StorageError(
                f"No checkpoint is whole, and that of step {step} may be: {problem.told}. Nothing was moved. Mend the"
                f" volume; or remove {storage.checkpoint(step)}, and the job begins without it."
            )


def _why_not(storage: Storage, run: Run, step: int) -> Problem | None:
    if run.spec.resume.policy is ResumePolicy.NEVER:
        return Problem("spec.resume.policy is Never")
    if found := problem_of(storage.checkpoint(step)):
        return found
    manifest = read_manifest(storage.checkpoint(step))
    if manifest.job_uid != run.uid:
        return Problem(f"it belongs to another job, {manifest.job_name!r} with UID {manifest.job_uid}")
    return None


def _refuse_less(plan: ResumePlan, spec: JobSpec) -> None:
    wanted = spec.resume.exactness
    if plan.resumed is None or plan.exactness.reaches(wanted):
        return
    cost = f" and cost {many(plan.lost_steps, 'finished step')}" if plan.lost_steps else ""
    raise Unmet(
        f"spec.resume.exactness is {wanted.value}, but the resume from step {plan.step} would be"
        f" {plan.exactness.value}{cost}: {'; '.join(plan.doubts)}. Undo that, or set spec.resume.exactness to"
        f" {plan.exactness.value}, and the job goes on."
    )


def _located(plan: ResumePlan, path: Path, found: CheckpointManifest, run: Run) -> ResumePlan:
    other = f" of job {found.job_name}" if found.job_uid != run.uid else ""
    reason = plan.reason.replace(f"step {found.step}", f"step {found.step}{other}", 1)
    return replace(
        plan,
        directory=path,
        loop=LoopState.read(path),
        checkpoint=facts_of(found, path, verified=True),
        reason=reason,
    )


def _from_the_start(spec: JobSpec, past: Past, doubts: list[str]) -> ResumePlan:
    if spec.checkpoint.load_rng and not past.first:
        raise Unmet(
            "spec.checkpoint.loadRng is true, but there is no checkpoint to load random states from. Leave it out, and"
            " the job begins at step 0."
        )
    never = spec.resume.policy is ResumePolicy.NEVER
    why = "spec.resume.policy is Never" if never else "there is no checkpoint to go on from"
    return ResumePlan(
        step=0,
        directory=None,
        load_optimizer=False,
        load_rng=False,
        exactness=Exactness.BEST_EFFORT if doubts else Exactness.EXACT,
        reason=f"Started from the model, at step 0: {why}{_again(past.lost(0), doubts)}.",
        doubts=tuple(doubts),
        lost_steps=None if past.first else past.lost(0),
        first=past.first,
    )


def _again(lost: int | None, doubts: list[str]) -> str:
    """What becomes of the steps that were finished before."""
    if lost == 0:
        return ""
    count = UNKNOWN if lost is None else f"{lost} finished steps are done again"
    how = f"not bit for bit, because {'; '.join(doubts)}" if doubts else "exactly"
    return f"; {count}, {how}"
