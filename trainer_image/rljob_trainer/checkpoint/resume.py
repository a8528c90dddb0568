"""What a checkpoint gives back to a new attempt, and what may then be claimed, in a sentence. Pure, for `plan.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rljob_api.job import JobSpec
from rljob_api.manifest import CheckpointManifest, Layout, Versions
from rljob_api.progress import Resumed
from rljob_api.status import CheckpointFacts, Exactness
from rljob_trainer.errors import Mistake, Unmet

from .basis import Basis
from .directory import STATE
from .facts import Facts, model_name
from .past import FIRST, Past
from .reshard import same_spread, why_no_optimizer, why_no_rng
from .state import LoopState

UNKNOWN = "how many finished steps are done again is not known"
UNNOTED = "an older version did not note what rollout servers computed with, which is taken to be the same"


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
    """Steps that were finished before, by whichever attempt, and are done again; None if no attempt came before, or if
    that is not known."""
    first: bool = False
    """No attempt has begun to train before."""
    skipped: tuple[str, ...] = ()
    """A sentence for each checkpoint that was passed over."""
    checkpoint: CheckpointFacts | None = None
    checkpoint_count: int = 0
    past: Past = FIRST
    """What of the attempts before it was judged by."""

    @property
    def state(self) -> Path | None:
        """What `Backend.load_checkpoint` takes."""
        return self.directory / STATE if self.directory else None

    def verified(self, checkpoints: Path) -> int | None:
        """The step of the job's own checkpoint, of that folder, that it goes on from: it was read whole."""
        return self.step if self.directory and self.directory.parent == checkpoints else None

    @property
    def furthest(self) -> int | None:
        """The furthest step that was ever finished; None if that is not known."""
        if self.lost_steps is None:
            return self.step if self.first else None
        return self.step + self.lost_steps

    @property
    def resumed(self) -> Resumed | None:
        """As `/progress` tells it; None for a job's first start."""
        if self.first and self.directory is None:
            return None
        return Resumed(
            from_step=self.step, lost_steps=self.lost_steps, exactness=self.exactness, reason=self.reason
        )


def decide(  # noqa: PLR0917 - what was, what is, and how far it had come
    found: CheckpointManifest,
    then: Facts,
    spec: JobSpec,
    layout: Layout,
    versions: Versions,
    past: Past,
    *,
    drawn: bool = True,
) -> ResumePlan:
    """What to load from a checkpoint that is whole, and how exactly training goes on, with samples that are `drawn` or
    recorded."""
    _refuse_other(found, spec, layout)
    rng = _loads_rng(found, spec, layout)
    optimizer = _loads_optimizer(found, spec, layout)
    lost = past.lost(found.step)
    basis = Basis(facts=then, layout=found.layout, versions=found.versions)
    lacking = _lacking(found, layout, rng=rng, optimizer=optimizer)
    again = past.doubts(found.step, spec, layout, versions)
    other = basis.doubts(spec, layout, versions, drawn=drawn)
    doubts = list(dict.fromkeys([*lacking, *other, *again]))
    restored = ["model", *(["optimizer"] if optimizer else []), *(["random states"] if rng else [])]
    told = f"Went on from step {found.step} with {', '.join(restored)}"
    how = f"; not bit for bit, because {'; '.join(doubts)}" if doubts else ", exactly"
    unnoted = versions.asked_servers and not found.versions.asked_servers
    asides = [*([UNKNOWN] if lost is None else []), *([UNNOTED] if unnoted else [])]
    return ResumePlan(
        step=found.step,
        directory=None,
        load_optimizer=optimizer,
        load_rng=rng,
        exactness=_exactness(doubts, lossless=lost == 0 and optimizer and basis.keeps_order(spec)),
        reason=f"{'; '.join([f'{told}{how}', *asides])}.",
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
            f" {found.layout.backend}. Set spec.backend to that, or begin a new job with an export of that step as its"
            f" spec.model.source: `rljob checkpoint export {found.job_name} --step {found.step} --to DIRECTORY`."
        )


def _loads_rng(found: CheckpointManifest, spec: JobSpec, layout: Layout) -> bool:
    """R1: absent loads where the layout allows, true insists, false never does."""
    obstacle = why_no_rng(found, layout)
    if spec.checkpoint.load_rng is None:
        return obstacle is None
    if spec.checkpoint.load_rng and obstacle:
        raise Unmet(
            f"spec.checkpoint.loadRng is true, but {obstacle}. Undo that, or leave loadRng out, and the job goes on."
        )
    return spec.checkpoint.load_rng


def _loads_optimizer(found: CheckpointManifest, spec: JobSpec, layout: Layout) -> bool:
    """A job that keeps its optimizer never loses it without being told to."""
    kept = found.has_optimizer or spec.checkpoint.save_optimizer
    if not (spec.resume.load_optimizer and kept):
        return False
    if obstacle := why_no_optimizer(found, layout):
        raise Unmet(
            f"spec.resume.loadOptimizer: {obstacle}. Undo that, or set loadOptimizer to false, and the job goes on with"
            " a fresh optimizer."
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
