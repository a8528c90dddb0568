"""A training rank from its first breath to its last words. Called in a forked child by `launch`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from rljob_api.progress import (
    EXIT_CODES,
    EXIT_COMPLETE,
    EXIT_FAILED,
    EXIT_PREEMPTED,
    Ending,
    LastWords,
    TrainPhase,
)
from rljob_api.run import Run
from rljob_trainer.backend.build import build_backend
from rljob_trainer.backend.hf_files import read_config
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.checkpoint.architecture import refuse_other_architecture
from rljob_trainer.checkpoint.basis import Basis
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError, dispensable
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.past import StepNotes
from rljob_trainer.checkpoint.plan import judged_again, plan_resume
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.team import SaveError
from rljob_trainer.checkpoint.versions import of_all_ranks, versions_here
from rljob_trainer.data import load_data
from rljob_trainer.distributed import LeaderFailedError, Ranks, join
from rljob_trainer.errors import Mistake, Unmet, UnreachableError
from rljob_trainer.export import export
from rljob_trainer.launch import EXIT_FOLLOWED
from rljob_trainer.leader import Inputs, Leader
from rljob_trainer.loop import Loop
from rljob_trainer.metrics import MetricsLog
from rljob_trainer.model_source import whole_model
from rljob_trainer.preempt import Preemption
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.rendezvous import AbsentRanksError
from rljob_trainer.rewards import load_reward
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.rollout.kept import kept_rollouts
from rljob_trainer.rollout.protocol import Rollouts, Sync
from rljob_trainer.rollout.recorded import NoSync, Recorded
from rljob_trainer.stall.pulse import Pulse
from rljob_trainer.weights.sync import SyncFailedError, WeightSync
from rljob_trainer.words import write_report

ENDINGS: dict[type[Exception], Ending] = {
    Mistake: Ending.MISTAKE,
    Unmet: Ending.UNMET,
    StorageError: Ending.VOLUME_UNUSABLE,
    AbsentRanksError: Ending.FAILED,
    UnreachableError: Ending.FAILED,
    FencedError: Ending.FAILED,
    SaveError: Ending.FAILED,
    SyncFailedError: Ending.FAILED,
}
"""Of errors with which nothing is wrong in the program: the sentence is worth more than where it was raised."""

End = tuple[Ending, int, str]
"""For the last words, the exit code, and a sentence."""
GIVEN_UP: End = (Ending.PREEMPTED, EXIT_PREEMPTED, "told to go before training began")


def main(run: Run, rank: int, local_rank: int, report: Path, pulse: Pulse) -> int:
    """Train; returns the rank's exit code and leaves its words in `report` for the parent, who watches `pulse`."""
    logging.basicConfig(level=logging.INFO, format=f"[rank {rank}] %(message)s", stream=sys.stdout)
    board = ProgressBoard(run, pulse=pulse)

    def give_up() -> None:
        write_report(_words(run, rank, board, GIVEN_UP), report)
        os._exit(EXIT_PREEMPTED)

    end = _ended(run, rank, local_rank, board, give_up)
    write_report(_words(run, rank, board, end), report)
    return end[1]


def _words(run: Run, rank: int, board: ProgressBoard, end: End) -> LastWords:
    ending, code, message = end
    progress = board.progress()
    return LastWords(
        ending=ending,
        role="trainer",
        rank=rank,
        attempt=run.attempt,
        exit_code=code,
        step=progress.step,
        saved_step=progress.checkpoint.step if progress.checkpoint else None,
        message=message,
        progress=progress if rank == 0 else None,
    )


def _ended(run: Run, rank: int, local_rank: int, board: ProgressBoard, give_up: Callable[[], None]) -> End:
    """How it came out."""
    try:
        if rank == 0:
            board.serve(os.environ["POD_IP"], run.progress_port)
        return _train(run, rank, local_rank, board, give_up)
    except tuple(ENDINGS) as told:
        sys.stderr.write(f"{told}\n")
        ending = next(ending for kind, ending in ENDINGS.items() if isinstance(told, kind))
        return ending, EXIT_CODES[ending], str(told)
    except LeaderFailedError as failed:
        return Ending.FAILED, EXIT_FOLLOWED, str(failed)
    except Exception as error:
        traceback.print_exc()
        return Ending.FAILED, EXIT_FAILED, f"{type(error).__name__}: {error}"


def _train(run: Run, rank: int, local_rank: int, board: ProgressBoard, give_up: Callable[[], None]) -> End:
    ranks = join(run, rank, local_rank, board.waiting)
    preemption = Preemption(ranks.store, ranks.control, give_up)
    with ExitStack() as open_things:
        with preemption.preparing():
            loop = prepare(run, ranks, board, preemption, open_things)
        return _trained(run, ranks, board, loop)


def _trained(run: Run, ranks: Ranks, board: ProgressBoard, loop: Loop) -> End:
    try:
        loop.run(run.last_step)
    except Interrupted:
        return Ending.PREEMPTED, EXIT_PREEMPTED, leave(run, loop)
    if loop.saver:
        loop.saver.finish()
    if run.replay:
        return Ending.COMPLETE, EXIT_COMPLETE, f"step {loop.state.step} was done again"
    with board.phase(TrainPhase.EXPORT):
        export(ranks, loop.backend, Storage.of(run), loop.state.step)
    with board.phase(TrainPhase.DONE):
        return Ending.COMPLETE, EXIT_COMPLETE, f"all {loop.state.step} steps are done"


def leave(run: Run, loop: Loop) -> str:
    """Told to go: keep the last finished step, whatever was begun after it."""
    step = loop.state.step
    if loop.saver is None or not run.spec.checkpoint.on_preemption.save:
        return f"told to go after step {step}; not saved, as spec.checkpoint says"
    if step == 0:
        return "told to go before the first step was finished"
    loop.save_now()
    return f"told to go; step {step} is saved"


def prepare(
    run: Run, ranks: Ranks, board: ProgressBoard, preemption: Preemption, open_things: ExitStack
) -> Loop:
    """The loop, with everything that it needs, at the step where it goes on. Collective.

    What a user can get wrong comes first, before anything heavy.
    """
    spec, storage = run.spec, Storage.of(run)
    versions = of_all_ranks(ranks.gathered(versions_here(run)))
    with board.phase(TrainPhase.PREPARE):
        plan = ranks.from_leader(
            lambda: plan_resume(open_storage(run), run, layout_of(spec), versions, board.found)
        )
        reward = ranks.on_leader(lambda: load_reward(spec))
        model = ranks.from_node_leaders(lambda: whole_model(run, board.tell))
        ranks.on_leader(lambda: refuse_other_architecture(plan.directory, model))
        inputs = ranks.on_leader(lambda: _inputs(run, model))
    with board.phase(TrainPhase.LOAD):
        backend = build_backend(run, model, reference=spec.algorithm.grpo.kl_penalty > 0)
        if plan.state is not None:
            backend.load_checkpoint(plan.state, optimizer=plan.load_optimizer, rng=plan.load_rng)
    rollouts, sync = _rollouts(run, ranks, board, open_things)
    # Servers come up while ranks load; what they are is known before they draw a sample.
    versions = ranks.from_leader(lambda: rollouts.beside(versions, preemption.poll) if rollouts else versions)
    plan = ranks.from_leader(lambda: judged_again(plan, storage, run, layout_of(spec), versions))
    for sentence in (*plan.skipped, plan.reason):
        logging.info(sentence)
    board.resume(plan)
    leader = None
    if rollouts and inputs and reward:
        log = open_things.enter_context(closing(MetricsLog(run, storage.tensorboard, plan.step)))
        if kept := kept_rollouts(run, storage, versions, plan):
            open_things.enter_context(closing(kept))
        notes = StepNotes(storage, Basis.of(spec, layout_of(spec), versions), plan.furthest)
        leader = Leader(spec, rollouts, inputs, reward, storage, log, board, preemption.poll, notes, kept)
    saver = None
    if spec.checkpoint.enabled:
        saver = Saver(
            run,
            storage,
            backend,
            versions,
            model,
            pass_over=board.pass_over,
            verified=plan.verified(storage.checkpoints),
        )
        board.reads_back(saver)
    loop = Loop(spec, ranks, backend, preemption, sync, saver, board, leader, plan.loop, backend.rng_state())
    if isinstance(rollouts, Fleet):
        rollouts.likeness.changed = lambda: loop.depend_on(rollouts.likeness.beside(versions))
    return loop


def _rollouts(
    run: Run, ranks: Ranks, board: ProgressBoard, open_things: ExitStack
) -> tuple[Rollouts | None, Sync]:
    """Who answers rank 0, and what gives them the weights of all ranks."""
    if run.recorded:
        return (Recorded(Path(run.recorded)) if ranks.leads else None), NoSync()
    fleet = open_things.enter_context(closing(_fleet(run, board))) if ranks.leads else None
    sync = WeightSync(run, ranks, fleet)
    board.rollouts(sync.transport, lambda: fleet.broken if fleet else [])
    return fleet, sync


def _fleet(run: Run, board: ProgressBoard) -> Fleet:
    def check_fence() -> None:
        with dispensable("Looking whether a newer attempt has the volume"):
            Storage.of(run).check_fence()

    return Fleet(run, board.tell, lambda: board.phase(TrainPhase.WAIT), check_fence)


def _inputs(run: Run, model: Path) -> Inputs:
    from transformers import AutoTokenizer

    trust = run.spec.model.trust_remote_code
    config = read_config(model, trust_remote_code=trust)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
    train, validation = load_data(run.spec, tokenizer, getattr(config, "max_position_embeddings", None))
    if run.recorded:
        validation = None  # what is answered in an evaluation is not kept
    pad = tokenizer.pad_token_id
    return Inputs(train, validation, tokenizer.eos_token_id if pad is None else pad)
