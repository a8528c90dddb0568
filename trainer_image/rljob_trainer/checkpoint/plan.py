"""What a new attempt goes on from, decided before anything is loaded, and said in a sentence.

`plan_resume` looks at the volume (rank 0 calls it, the others are told); `decide` is pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from rljob_api.checkpoint import ResumePolicy
from rljob_api.job import JobSpec
from rljob_api.manifest import CheckpointManifest, Layout, Versions
from rljob_api.progress import Resumed
from rljob_api.run import Run
from rljob_api.status import CheckpointFacts, Exactness
from rljob_trainer.errors import Mistake, Unmet

from .basis import Basis, read_basis, write_basis
from .directory import STATE, Past, Storage
from .durable import StorageError, storage_errors
from .facts import FACTS_FILE, Facts, model_name, versions_here
from .initial import initial_checkpoint
from .reshard import same_spread, why_no_optimizer, why_no_rng
from .save import facts_of
from .state import LoopState
from .verify import Problem, problems, read_manifest

UNKNOWN = "how many finished steps are done again is not known, as the note of the last one was torn"


@dataclass(frozen=True)
class ResumePlan:
    """What to load, and what may be claimed about it."""

    step: int
    directory: Path | None
    """The checkpoint; None starts from the model itself, at step 0."""
    load_optimizer: bool
    load_rng: bool
    exactness: Exactness
    reason: str
    """A sentence: what is restored, and why not more."""
    doubts: tuple[str, ...] = ()
    """Everything that keeps it from being bit-exact, as parts of a sentence."""
    loop: LoopState = field(default_factory=LoopState)
    lost_steps: int | None = None
    """Finished steps that are done again; None if no attempt came before, or if that is not known."""
    first: bool = False
    """No attempt has begun to train before."""
    skipped: tuple[str, ...] = ()
    """A sentence for each checkpoint that was passed over."""
    checkpoint: CheckpointFacts | None = None
    checkpoint_count: int = 0

    @property
    def state(self) -> Path | None:
        """What `Backend.load_checkpoint` takes."""
        return self.directory / STATE if self.directory else None

    @property
    def resumed(self) -> Resumed | None:
        """As `/progress` tells it; None for a job's first start."""
        if self.first and self.directory is None:
            return None
        return Resumed(
            from_step=self.step, lost_steps=self.lost_steps, exactness=self.exactness, reason=self.reason
        )


def plan_resume(storage: Storage, run: Run, layout: Layout, versions: Versions | None = None) -> ResumePlan:
    """The newest checkpoint of this job that verifies; broken ones are moved to `quarantine/` and named. Without any,
    the one that `initialCheckpoint` names.

    Raises `Mistake` if the checkpoint is of another model or backend, or if `loadRng: true` cannot be met, `Unmet`
    if the resume would be less exact than `resume.exactness`, and `StorageError` if the volume cannot be read; it then
    stays as it was for the next attempt.
    """
    with storage_errors(storage.root, "Looking for a checkpoint"):
        own, skipped = _newest_whole(storage, run)
        past = storage.past()
        now = versions or versions_here(run)
        path = own or initial_checkpoint(run)
        if path is None:
            basis = Basis.of(run.spec, layout, now)
            plan = _from_the_start(storage, run.spec, basis, past)
        else:
            found = read_manifest(path)
            then: Facts = json.loads((path / FACTS_FILE).read_text())
            spec = run.spec if own else _begins_with(run.spec)
            plan = _located(decide(found, then, spec, layout, now, past), path, found, run)
        _refuse_less(plan, run.spec)
        if path is None:
            write_basis(storage.root, basis)
        storage.note_step(plan.step)
    return replace(plan, skipped=tuple(skipped), checkpoint_count=len(storage.steps()))


def _begins_with(spec: JobSpec) -> JobSpec:
    """R1: the first load of another job's checkpoint takes its random states over only if told to."""
    rng = spec.checkpoint.load_rng or False
    return spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update={"load_rng": rng})})


def _newest_whole(storage: Storage, run: Run) -> tuple[Path | None, list[str]]:
    """And a sentence for each that is newer; those are moved aside, for their names will be needed."""
    wrong: dict[int, Problem] = {}
    for step in reversed(storage.steps()):
        problem = _why_not(storage, run, step)
        if problem is None:
            return storage.checkpoint(step), _set_aside(storage, wrong)
        wrong[step] = problem
    _refuse_unreadable(storage, wrong)
    return None, _set_aside(storage, wrong)


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
    if found := problems(storage.checkpoint(step)):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return replace(found[0], told=found[0].told + more)
    manifest = read_manifest(storage.checkpoint(step))
    if manifest.job_uid != run.uid:
        return Problem(f"it belongs to another job, {manifest.job_name!r} with UID {manifest.job_uid}")
    return None


def _refuse_less(plan: ResumePlan, spec: JobSpec) -> None:
    wanted = spec.resume.exactness
    if plan.resumed is None or plan.exactness.reaches(wanted):
        return
    raise Unmet(
        f"spec.resume.exactness is {wanted.value}, but the resume from step {plan.step} would be"
        f" {plan.exactness.value}: {'; '.join(plan.doubts)}. Undo that, or set spec.resume.exactness to"
        f" {plan.exactness.value}, and the job goes on."
    )


def _located(plan: ResumePlan, path: Path, found: CheckpointManifest, run: Run) -> ResumePlan:
    other = f" of job {found.job_name}" if found.job_uid != run.uid else ""
    reason = plan.reason.replace(f"step {found.step}", f"step {found.step}{other}", 1)
    return replace(
        plan, directory=path, loop=LoopState.read(path), checkpoint=facts_of(found, path), reason=reason
    )


def _from_the_start(storage: Storage, spec: JobSpec, basis: Basis, past: Past) -> ResumePlan:
    if spec.checkpoint.load_rng and not past.first:
        raise Mistake(
            "spec.checkpoint.loadRng is true, but there is no checkpoint to load random states from. Leave it out to"
            " begin at step 0."
        )
    never = spec.resume.policy is ResumePolicy.NEVER
    why = "spec.resume.policy is Never" if never else "there is no checkpoint to go on from"
    doubts = [] if past.step == 0 else _doubts_of_the_past(read_basis(storage.root), spec, basis)
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


def _doubts_of_the_past(then: Basis | None, spec: JobSpec, now: Basis) -> list[str]:
    if then is None:
        return ["it is not known what the steps before depended on"]
    return then.doubts(spec, now.layout, now.versions)


def _again(lost: int | None, doubts: list[str]) -> str:
    """What becomes of the steps that were finished before."""
    if lost == 0:
        return ""
    count = UNKNOWN if lost is None else f"{lost} finished steps are done again"
    how = f"not bit for bit, because {'; '.join(doubts)}" if doubts else "exactly"
    return f"; {count}, {how}"


def decide(  # noqa: PLR0917 - what was, what is, and how far it had come
    found: CheckpointManifest,
    then: Facts,
    spec: JobSpec,
    layout: Layout,
    versions: Versions,
    past: Past,
) -> ResumePlan:
    """What to load from a checkpoint that is whole, and how exactly training goes on."""
    _refuse_other(found, spec, layout)
    rng = _loads_rng(found, spec, layout)
    optimizer = _loads_optimizer(found, spec, layout)
    lost = past.lost(found.step)
    basis = Basis(facts=then, layout=found.layout, versions=found.versions)
    lacking = _lacking(found, layout, rng=rng, optimizer=optimizer)
    doubts = [*lacking, *basis.doubts(spec, layout, versions)]
    restored = ["model", *(["optimizer"] if optimizer else []), *(["random states"] if rng else [])]
    told = f"Went on from step {found.step} with {', '.join(restored)}"
    how = f"; not bit for bit, because {'; '.join(doubts)}" if doubts else ", exactly"
    return ResumePlan(
        step=found.step,
        directory=None,
        load_optimizer=optimizer,
        load_rng=rng,
        exactness=_exactness(doubts, lossless=lost == 0 and optimizer and basis.keeps_order(spec)),
        reason=f"{told}{how}{f'; {UNKNOWN}' if lost is None else ''}.",
        doubts=tuple(doubts),
        lost_steps=lost,
        first=past.first,
    )


def _exactness(doubts: list[str], *, lossless: bool) -> Exactness:
    """Steps that are lost come back identical if nothing is in doubt: then even they cost only time."""
    if not doubts:
        return Exactness.EXACT
    return Exactness.LOSSLESS if lossless else Exactness.BEST_EFFORT


def _refuse_other(found: CheckpointManifest, spec: JobSpec, layout: Layout) -> None:
    if found.model != model_name(spec):
        raise Mistake(
            f"spec.model is {model_name(spec)}, but the checkpoint of step {found.step} is of"
            f" {found.model}. Set the"
            " model back, give the job another name, or set spec.resume.policy to Never."
        )
    if found.layout.backend != layout.backend:
        raise Mistake(
            f"spec.backend is {layout.backend}, but the checkpoint of step {found.step} was written by"
            f" {found.layout.backend}. Set spec.backend back, or start a new job from an export of that step:"
            f" rljob checkpoint export --step {found.step}."
        )


def _loads_rng(found: CheckpointManifest, spec: JobSpec, layout: Layout) -> bool:
    """R1: absent loads where the layout allows, true insists, false never does."""
    obstacle = why_no_rng(found, layout)
    if spec.checkpoint.load_rng is None:
        return obstacle is None
    if spec.checkpoint.load_rng and obstacle:
        raise Mistake(f"spec.checkpoint.loadRng is true, but {obstacle}. Leave it out to go on.")
    return spec.checkpoint.load_rng


def _loads_optimizer(found: CheckpointManifest, spec: JobSpec, layout: Layout) -> bool:
    """A job that keeps its optimizer never loses it without being told to."""
    kept = found.has_optimizer or spec.checkpoint.save_optimizer
    if not (spec.resume.load_optimizer and kept):
        return False
    if obstacle := why_no_optimizer(found, layout):
        raise Mistake(
            f"spec.resume.loadOptimizer: {obstacle}. Set it to false to go on with a fresh optimizer."
        )
    return True


def _lacking(found: CheckpointManifest, layout: Layout, *, rng: bool, optimizer: bool) -> list[str]:
    """What of the checkpoint's state is not restored, as parts of a sentence; another layout is told for itself."""
    doubts = []
    if not rng and same_spread(found.layout, layout):
        doubts.append(why_no_rng(found, layout) or "random states were not loaded")
    if not optimizer:
        doubts.append("the optimizer starts fresh")
    return doubts
