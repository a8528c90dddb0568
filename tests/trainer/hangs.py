"""Ranks that hang for real, under the real launcher: forked from a warm parent, met over gloo, silent in some phase.

A toy stands for the loop. Its ranks write the same pulses through the same board, and wait for each other the same way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from ports import free_port
from requirements.interrupted import build
from rljob_api.progress import EXIT_COMPLETE, LastWords, TrainPhase
from rljob_api.run import Run
from rljob_trainer import launch
from rljob_trainer.backend.protocol import no_poll
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint import durable
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.shards import ShardWriter
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.distributed import Ranks, join
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.rewards import load_reward, score
from rljob_trainer.stall import evidence, guard, stacks
from rljob_trainer.words import TERMINATION_LOG_ENV, read_last_words
from trainer.checkpoints import VERSIONS, a_run
from trainer.ranks import context
from trainer.test_megatron import make_batch
from trainer.tiny import policy_loss
from waiting import DEADLINE_SECONDS, until

Toy = Callable[[Ranks, ProgressBoard, Run], None]
PATIENCE_SECONDS = 60.0
"""For what a busy machine may be slow at, and nothing here waits for in vain."""
PR_SET_CHILD_SUBREAPER = 36


def launched(
    toy: Toy, tmp_path: Path, *limits: dict[str, int], volume: Path | None = None, **spec: Any
) -> list[tuple[int, LastWords]]:
    """Exit code and last words of each node's launcher; two ranks in all run `toy`, on `volume` or an ordinary folder.

    There are as many nodes as `limits`, which are each node's seconds of silence by phase.
    """
    trainer = {"numNodes": len(limits), "numProcPerNode": 2 // len(limits)}
    storage = volume or tmp_path / "storage"
    storage.mkdir(exist_ok=True)
    place = {"master_addr": "127.0.0.1", "master_port": free_port()}
    runs = [
        a_run(storage, stall={"phaseTimeoutSeconds": each}, trainer=trainer, **spec).model_copy(update=place)
        for each in limits
    ]
    places = [tmp_path / f"node-{node}" for node in range(len(runs))]
    processes = [
        context().Process(target=_launch, args=(toy, run, node, places[node]))
        for node, run in enumerate(runs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert None not in codes, "a launcher did not end"
    return [(code or 0, _words(place)) for code, place in zip(codes, places, strict=True)]


def _words(place: Path) -> LastWords:
    words = read_last_words(place / "termination-log")
    assert words is not None
    return words


def _launch(toy: Toy, run: Run, node: int, place: Path) -> None:
    place.mkdir()
    os.chdir(place)
    os.environ |= {TERMINATION_LOG_ENV: str(place / "termination-log"), "GLOO_SOCKET_IFNAME": "lo"}
    train = ModuleType("rljob_trainer.train")
    train.main = partial(_rank, toy)  # type: ignore[attr-defined] # a module of our own
    sys.modules[train.__name__] = train
    launch._import_once = lambda run: None
    guard.HEAD_START_SECONDS = 6.0
    launch.KILLED_SECONDS = 2.0
    stacks.ANSWER_SECONDS = evidence.STORAGE_SECONDS = PATIENCE_SECONDS
    launch.STORAGE_SECONDS = PATIENCE_SECONDS  # type: ignore[attr-defined] # its own name for it
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans come to it, as to a pod's first process
    sys.exit(launch.launch(run, node))


def _rank(toy: Toy, run: Run, *place: Any) -> int:
    rank, local_rank, _, pulse = place
    torch.set_num_threads(1)
    board = ProgressBoard(run, pulse=pulse)
    ranks = join(run, rank, local_rank, board.waiting)
    toy(ranks, board, run)
    dist.destroy_process_group()
    return EXIT_COMPLETE


def stops_in_the_update(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """Rank 1 is stopped between two micro-batches; rank 0 waits for it."""
    for micro_batch in range(3):
        with board.phase(TrainPhase.TRAIN, f"micro-batch {micro_batch}"):
            if ranks.rank == 1 and micro_batch == 2:
                os.kill(os.getpid(), signal.SIGSTOP)
            dist.all_reduce(torch.ones(4))


def sleeps_in_the_update(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """As above, but its process is well: only its stack differs."""
    with board.phase(TrainPhase.TRAIN):
        if ranks.rank == 1:
            time.sleep(3600)
        dist.all_reduce(torch.ones(4))


def scores_for_ever(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """The second sample's reward does not return; rank 1 waits for what rank 0 makes of it."""
    Path("endless_reward.py").write_text(
        "import time\ndef score(prompt, completion, answer, item):\n    time.sleep(3600 * (completion == '5'))\n"
        "    return 1.0\n"
    )

    def ask() -> list[float]:
        with board.phase(TrainPhase.REWARD):
            return score([a_sample("4"), a_sample("5")], load_reward(run.spec), board.tell)

    ranks.from_leader(ask)


def writes_for_ever(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """The volume takes nothing: it stands still while rank 1 writes to it."""
    with board.phase(TrainPhase.SAVE):
        if ranks.rank == 1:
            durable.write_durably(frozen(Path(run.paths.storage)) / "step_1", "weights")
        dist.barrier()


def frozen(storage: Path) -> Path:
    """A directory of a volume that answers nothing. A FIFO under the draft's name stands in: opening it for writing
    blocks in the kernel as a write to a dead NFS server does, but it can be killed."""
    draft = storage / ".step_1"
    os.mkfifo(draft)
    durable.draft_of = lambda path: draft
    return storage


def hangs_within_megatron(
    ranks: Ranks, board: ProgressBoard, run: Run, *, model: Path, how: Callable[[], object]
) -> None:
    """Rank 1 does not get beyond a layer of its model. The phase begins there: only that is to be silent."""
    backend = build(run.spec, model)

    def at_the_layer(*layer: object) -> None:
        with board.phase(TrainPhase.TRAIN):
            if ranks.rank == 1:
                for _ in range(9):
                    board.alive()  # more often than rank 0: that it is late shows by its stack alone
                how()

    backend.chunks[0].decoder.layers[-1].register_forward_pre_hook(at_the_layer)
    backend.train_step(make_batch(), policy_loss(make_batch()), no_poll)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep() -> None:
    time.sleep(3600)


def saves_within_megatron(
    ranks: Ranks,
    board: ProgressBoard,
    run: Run,
    *,
    model: Path,
    background: bool = False,
    block: Callable[[Path], object] = os.mkfifo,
) -> None:
    """The volume takes nothing of rank 1's share of a checkpoint. The phase begins with the writing.

    `block` is what keeps a file from being written, if the volume does not do that itself.
    """
    backend = build(run.spec, model)
    saver = Saver(run, ranks.from_leader(lambda: open_storage(run)), backend, VERSIONS, None)
    write = ShardWriter.write_data

    def write_in_the_phase(writer: ShardWriter, *plan: Any) -> Any:
        if ranks.rank == 1:
            block(Path(writer.path) / "__1_0.distcp")
        with board.phase(TrainPhase.SAVE):
            return write(writer, *plan)

    with mock.patch.object(ShardWriter, "write_data", write_in_the_phase):
        if background:
            saver.begin(LoopState(step=1), backend.rng_state())
            saver.finish()
        else:
            saver.save(LoopState(step=1), backend.rng_state())


def gets_on_slowly(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """Twice as long as the limit, in one phase, with signs of life; rank 1 waits all the while."""
    with board.phase(TrainPhase.TRAIN):
        for _ in range(60):
            time.sleep(0.1 if ranks.leads else 0)
            board.alive()
        dist.all_reduce(torch.ones(4))


def waits_for_rank_0(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """Rank 0 takes longer than the phase that rank 1 was last in may be silent."""
    with board.phase(TrainPhase.TRAIN):
        dist.all_reduce(torch.ones(4))

    def ask() -> None:
        with board.phase(TrainPhase.GENERATE):
            time.sleep(4)

    ranks.from_leader(ask)


def leaves_an_orphan(ranks: Ranks, board: ProgressBoard, run: Run) -> None:
    """A child's child, as the server of a library may be, ends while the ranks run: somebody has to bury it."""
    script = "sleep 0.1 > /dev/null & echo $!"
    told = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout
    until(lambda: not Path("/proc", told.strip()).exists(), "it is buried")


def a_sample(text: str) -> Sample:
    prompt = Prompt(index=7, text="2+2=", token_ids=[1], answer="4")
    return Sample(
        prompt=prompt,
        number=0,
        token_ids=[1],
        text=text,
        logprobs=[0.0],
        finish_reason="stop",
        weight_version=0,
    )
