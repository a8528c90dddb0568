"""What Megatron is really called with while a job trains, saves, and goes on from its checkpoint."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import torch.distributed as dist

from requirements.interrupted import step
from rljob_api.run import Run
from rljob_trainer.backend.build import build_backend
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.loop import Loop
from rljob_trainer.progress import ProgressBoard
from trainer.checkpoints import VERSIONS
from trainer.conversions import converted

if TYPE_CHECKING:
    from rljob_trainer.backend.megatron.backend import MegatronBackend


@dataclass(frozen=True)
class Called:
    """On one rank, in plain values."""

    groups: Mapping[str, Any]
    """Arguments of `initialize_model_parallel`, its defaults included."""
    models: list[Mapping[str, Any]]
    """Fields of `TransformerConfig`: of the policy, and of the reference model."""
    micro_batches: set[int]
    """In how many pieces the schedule ran a batch."""
    gradients: Mapping[str, Any]
    """Fields of `DistributedDataParallelConfig`."""
    optimizer: Mapping[str, Any]
    """Fields of `OptimizerConfig`."""
    rates: list[float]
    """Learning rate that the optimizer applied, update by update."""
    logging_level: int
    saves: list[dict[str, Any]]
    loads: list[dict[str, Any]]
    reason: str
    """What the resume says of itself."""


class Watch:
    """Real functions, whose arguments are remembered."""

    def __init__(self) -> None:
        self.calls: dict[str, list[mock._Call]] = {}

    @contextmanager
    def on(self, owner: object, name: str) -> Iterator[None]:
        calls = self.calls.setdefault(name, [])
        real: Callable[..., Any] = getattr(owner, name)

        def remembered(*arguments: Any, **options: Any) -> Any:
            calls.append(mock.call(*arguments, **options))
            return real(*arguments, **options)

        with mock.patch.object(owner, name, remembered):
            yield


def train_save_and_resume(run: Run, model: Path) -> Called:
    """Three updates of a backend that is built as `train` builds it, a checkpoint as the loop saves it, and a second
    attempt that loads it. Collective.
    """
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.pipeline_parallel import schedules

    from rljob_trainer.backend.megatron import model as megatron_model
    from rljob_trainer.backend.megatron import optimizer
    from rljob_trainer.convert import once

    converted(model)  # a step of its own, which has options of its own
    watch = Watch()
    with ExitStack() as watched:
        for owner, name in (
            (parallel_state, "initialize_model_parallel"),
            (megatron_model, "TransformerConfig"),
            (schedules, "forward_backward_no_pipelining"),
            (optimizer, "DistributedDataParallelConfig"),
            (optimizer, "OptimizerConfig"),
            (dist_checkpointing, "save"),
            (dist_checkpointing, "load"),
        ):
            watched.enter_context(watch.on(owner, name))
        watched.enter_context(mock.patch.object(once, "find_converted", lambda run, model: converted(model)))
        backend = cast("MegatronBackend", build_backend(run, model, reference=True))
        rates = [_rate_of_step(backend, number) for number in range(3)]
        _save(run, backend)
        reason = _resume(run.model_copy(update={"attempt": 2, "token": "token-2"}), backend)
    return Called(
        groups=_bound(parallel_state.initialize_model_parallel, watch.calls["initialize_model_parallel"][0]),
        models=[call.kwargs for call in watch.calls["TransformerConfig"]],
        micro_batches={
            call.kwargs["num_microbatches"] for call in watch.calls["forward_backward_no_pipelining"]
        },
        gradients=watch.calls["DistributedDataParallelConfig"][0].kwargs,
        optimizer=watch.calls["OptimizerConfig"][0].kwargs,
        rates=rates,
        logging_level=logging.getLogger("megatron.core").getEffectiveLevel(),
        saves=[_save_call(*call.args, **call.kwargs) for call in watch.calls["save"]],
        loads=[_load_call(*call.args) for call in watch.calls["load"]],
        reason=reason,
    )


def _bound(function: Callable[..., Any], call: mock._Call) -> Mapping[str, Any]:
    arguments = inspect.signature(function).bind(*call.args, **call.kwargs)
    arguments.apply_defaults()
    return arguments.arguments


def _rate_of_step(backend: MegatronBackend, number: int) -> float:
    """The learning rate that the optimizer has applied."""
    step(backend, number)
    (rate,) = {group["lr"] for group in backend.optimizer.param_groups}
    return float(rate)


def _save(run: Run, backend: MegatronBackend) -> None:
    """Through the loop, which chooses between a save that it waits for and one in the background."""
    if dist.get_rank() == 0:
        open_storage(run)
    dist.barrier()
    saver = Saver(run, Storage.of(run), backend, VERSIONS, None)
    state, board, none = LoopState(step=2), ProgressBoard(run), cast("Any", None)
    Loop(run.spec, none, backend, none, none, saver, board, None, state, backend.rng_state()).save()
    saver.finish()


def _resume(run: Run, backend: MegatronBackend) -> str:
    told: list[Any] = [None]
    if dist.get_rank() == 0:
        told = [plan_resume(open_storage(run), run, layout_of(run.spec), VERSIONS)]
    dist.broadcast_object_list(told)
    (plan,) = told
    backend.load_checkpoint(plan.state, optimizer=plan.load_optimizer, rng=plan.load_rng)
    return str(plan.reason)


def _save_call(state: dict[str, Any], _directory: str, strategy: Any, **options: Any) -> dict[str, Any]:
    from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelSaveStrategyWrapper

    shared = isinstance(strategy, FullyParallelSaveStrategyWrapper)
    writer = strategy.base_strategy if shared else strategy
    return {
        "fully parallel": shared,
        "background": writer.background,
        "optimizer sharding": options["content_metadata"]["distrib_optim_sharding_type"],
        "rng": "rng" in state,
    }


def _load_call(template: dict[str, Any], _directory: str, strategy: Any) -> dict[str, Any]:
    from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelLoadStrategyWrapper

    return {
        "fully parallel": isinstance(strategy, FullyParallelLoadStrategyWrapper),
        "rng": "rng" in template,
    }
