"""What a save in the background takes from training, over a save that training waits for, on two ranks of Megatron."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from bench.gang import together
from bench.model import make_qwen3
from bench.result import Facts, Result, at_most
from bench.rounds import ROUNDS, Seconds, ratio, take_turns
from bench.save import RANKS, SHAPE, Saving, large_enough
from rljob_trainer.checkpoint.save import Saved
from trainer.checkpoints import a_run
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.tiny import make_batch, megatron_spec, policy_loss
from trainer.vllm_server import nothing

TARGET = 0.2


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    seconds, size = run_ranks(RANKS, on_rank, folder, deadline=300)[0]
    return Result(
        name="asyncsave",
        checks=[
            at_most(
                "an async save blocks training, over a sync save", ratio(seconds, "async", "sync"), TARGET
            ),
            large_enough(size),
        ],
        seconds=seconds,
        facts={"parameters": parameters, "checkpoint_mb": round(size / 1e6, 1), **slower(seconds)},
        comment="`Saver.begin` until training may go on, and a look after each step until the checkpoint is whole, over"
        " `Saver.save`: tensor 2, model and Adam's state; written, verified, renamed. While it is written, ranks train:"
        " here on the very cores that hash and write, which makes those steps longer, as the rows below show. What"
        " blocks is the copy of the state, the exchange of who writes what, and the draft's directory.",
    )


def slower(seconds: Seconds) -> Facts:
    return {"step_beside_the_writing_over_one_alone": round(ratio(seconds, "step beside", "step alone"), 2)}


def on_rank(folder: Path) -> tuple[Seconds, int]:
    """Seconds, and the bytes of a checkpoint."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    spec, model = megatron_spec(RANKS, {"tensor": RANKS}), folder / "model"
    run = a_run(folder / "storage").model_copy(update={"spec": spec})
    backend = MegatronBackend(spec, model, converted(model), reference=False)
    saving, beside = Saving(run, backend, folder), list[list[float]]()

    def step() -> float:
        batch = make_batch()
        return together(saving.ranks, lambda: backend.train_step(batch, policy_loss(batch), nothing))

    def save_beside_steps() -> float:
        """Seconds that training waited: to begin, and at each look after a step until the checkpoint is whole."""
        blocked, told = saving.begin(), list[Saved | None]()
        beside.append([])
        while not any(told):
            beside[-1].append(step())
            blocked += together(saving.ranks, lambda: told.append(saving.saver.poll()))
        return blocked

    step()  # the optimizer has its state from now on
    seconds = take_turns({"sync": saving.save, "async": save_beside_steps, "step alone": step})
    seconds["step beside"] = list(chain(*beside[-ROUNDS:]))
    return seconds, sum(path.stat().st_size for path in saving.newest.rglob("*") if path.is_file())
