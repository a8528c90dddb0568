"""Writes a Hugging Face model as a Megatron checkpoint. Every rank streams its share: it never holds more than the last
piece of each kind of parameter.

Megatron's own `dist_checkpointing.save` makes the checkpoint; what it is given are tensors without data, and the
planner that it asks for the data, piece by piece, reads them then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelSaveStrategyWrapper
from megatron.core.dist_checkpointing.strategies.torch import (
    MCoreSavePlanner,
    TorchDistSaveShardedStrategy,
    _replace_state_dict_keys_with_sharded_keys,
    mcore_to_pyt_state_dict,
)
from torch import Tensor
from torch import distributed as dist
from torch.distributed.checkpoint.planner import WriteItem

from rljob_api.manifest import FileEntry
from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.architecture import Architecture, read_architecture
from rljob_trainer.backend.megatron.checkpoint import State
from rljob_trainer.backend.megatron.mapping import HEAD, name_in_table, placed_entries
from rljob_trainer.backend.megatron.model import build_model, transformer_config
from rljob_trainer.backend.megatron.parallel import Place
from rljob_trainer.backend.megatron.saved import Slot
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.shards import write_shards
from rljob_trainer.convert.hf_source import FIELD, HfSource
from rljob_trainer.convert.plan import Part, parts, piece, share
from rljob_trainer.errors import Mistake

Tell = Callable[[int, str], None]
"""Called with the bytes done since the last call, and what the rank is at."""


def write_model(
    source: Path,
    directory: Path,
    dtype: torch.dtype,
    *,
    fully_parallel_save: bool = True,
    validate_access_integrity: bool = True,
    tell: Tell = lambda size, name: None,
) -> list[FileEntry]:
    """Convert the model in `source` into the empty `directory`. Collective over the default process group.

    The defaults of the two switches are Megatron's; each gathers objects from all ranks, which a conversion does not
    need. Returns what this rank wrote and flushed. Raises `Mistake` for a model that cannot be converted.
    """
    tell(0, "what the files hold")
    architecture = read_architecture(source)
    weights = HfSource(source)
    everything = planned(architecture, weights, dtype)
    mine = share(everything, dist.get_world_size(), dist.get_rank())
    streamed = StreamedSave(mine, weights, architecture, dtype, tell)
    strategy = streamed
    if fully_parallel_save:
        strategy = FullyParallelSaveStrategyWrapper(streamed, everybody())
    cpu.adapt()
    with cpu.stand_in():
        request = dist_checkpointing.save(
            {f"{dist.get_rank()}/{n}": tensor for n, tensor in enumerate(streamed.tensors)},
            str(directory),
            strategy,
            validate_access_integrity=validate_access_integrity,
            async_sharded_save=True,
        )
    tell(0, "waiting until all have written")
    for finish in request.finalize_fns:
        finish()
    written: list[FileEntry] = streamed.written()
    return written


def planned(architecture: Architecture, weights: HfSource, dtype: torch.dtype) -> list[Part]:
    """All of the model. Raises `Mistake` unless the files hold what the configuration says. Collective."""
    expected = _parameter_shapes(architecture, dtype)
    names = {name for placed in placed_entries(architecture, 1) for name in placed.entry.hf}
    weights.refuse_without(sorted(names))
    weights.refuse_beyond({*names, *HEAD.hf})  # a file may hold a tied head once more
    everything = parts(architecture, weights.shapes, dtype)
    for part in everything:
        said = expected.pop(part.entry.megatron)
        if part.shape != said:
            raise Mistake(
                f"{FIELD}: {' + '.join(part.entry.hf)} in {weights.directory} has shape {tuple(part.shape)}, the"
                f" model's configuration says {tuple(said)}"
            )
    if expected:
        raise RuntimeError(f"no mapping fills {sorted(expected)}")
    return everything


def _parameter_shapes(architecture: Architecture, dtype: torch.dtype) -> dict[str, torch.Size]:
    """As Megatron's own model has them on one rank; built without memory. Collective."""
    parallel_state.initialize_model_parallel()
    try:
        place = Place(tensor=0, tensors=1, stage=0, stages=1, replica=0, replicas=1)
        config = transformer_config(architecture, place, dtype, 0.0)
        config.perform_initialization = False
        with torch.device("meta"):
            model = build_model(architecture, config, place)
    finally:
        parallel_state.destroy_model_parallel()
    return {name_in_table(name): parameter.shape for name, parameter in model.named_parameters()}


class StreamedSave(TorchDistSaveShardedStrategy):  # type: ignore[misc]  # megatron-core has no types
    """Megatron's format; tensors are made when they are written."""

    written: Written

    def __init__(
        self, mine: list[Part], weights: HfSource, architecture: Architecture, dtype: torch.dtype, tell: Tell
    ) -> None:
        super().__init__("torch_dist", 1)
        self._planner = StreamingPlanner(mine, weights, architecture, dtype, tell)
        self.tensors = [tensor for part in mine for tensor in _pieces(part, architecture, dtype)]

    def async_save(self, sharded_state_dict: State, checkpoint_dir: Path) -> AsyncRequest:
        named, _, _ = _replace_state_dict_keys_with_sharded_keys(
            sharded_state_dict, self.keep_only_main_replica
        )
        state = mcore_to_pyt_state_dict(named, False)
        self.written = write_shards(state, checkpoint_dir, self._planner, everybody(), background=False)
        return AsyncRequest(None, (), [])


class StreamingPlanner(MCoreSavePlanner):  # type: ignore[misc]  # megatron-core has no types
    """Gives the writer each piece when it asks, in the order of `mine`."""

    def __init__(
        self, mine: list[Part], weights: HfSource, architecture: Architecture, dtype: torch.dtype, tell: Tell
    ) -> None:
        super().__init__(dedup_replicated_tensors=False, flatten_state_dict=False)
        self._parts = {part.slot: part for part in mine}
        self._weights, self._architecture, self._dtype, self._tell = weights, architecture, dtype, tell
        self._open: tuple[Part, list[Tensor]] | None = None

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        name, offset = write_item.index.fqn, write_item.index.offset
        assert offset is not None
        assert write_item.tensor_data is not None
        part = self._part(name, offset)
        self._tell(0, part.entry.megatron)
        depth, sizes = len(part.slot.index), write_item.tensor_data.chunk.sizes
        number = offset[depth + part.axis] // sizes[depth + part.axis]
        own = piece(part, number, self._tensors(part), self._architecture).to(self._dtype)
        self._tell(sizes.numel() * self._dtype.itemsize, part.entry.megatron)
        return own.contiguous()[(None,) * depth]

    def _part(self, name: str, offset: torch.Size) -> Part:
        slots = (Slot(name, tuple(offset[:depth])) for depth in (0, 1, 2))
        return next(self._parts[slot] for slot in slots if slot in self._parts)

    def _tensors(self, part: Part) -> list[Tensor]:
        """Mapped files: what is not looked at is not read, and no memory of ours is taken."""
        if self._open is None or self._open[0] is not part:
            self._open = part, [self._weights.read(name) for name in part.entry.hf]
        return self._open[1]


def everybody() -> dist.ProcessGroup:
    """The default group: a conversion has a world of its own."""
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def _pieces(part: Part, architecture: Architecture, dtype: torch.dtype) -> list[ShardedTensor]:
    """Where each stands in Megatron's tensor of all layers, and of all experts; without data."""
    counts = (architecture.layers, architecture.experts.count if architecture.experts else 0)
    stacked = [(axis, i, counts[axis]) for axis, i in enumerate(part.slot.index)]
    shape = [*part.shape]
    shape[part.axis] //= part.pieces
    return [
        ShardedTensor.from_rank_offsets(
            part.slot.name,
            torch.empty(shape, dtype=dtype, device="meta"),
            *stacked,
            (len(stacked) + part.axis, n, part.pieces),
            prepend_axis_num=len(stacked),
        )
        for n in range(part.pieces)
    ]
