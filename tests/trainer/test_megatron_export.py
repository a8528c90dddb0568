"""Weights leave the gang bucket by bucket: however large the model, a rank needs room for little more of it."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rljob_api.job import JobSpec
from trainer import tiny
from trainer.conversions import converted
from trainer.ranks import run_ranks

STAGES = tiny.megatron_spec(2, {"pipeline": 2})
MIB = 1 << 20
BUCKET = 6 * MIB
PARAMETER = 4 * MIB
"""The largest: gate and up projection in one."""
LAYERS = 16


def large_model(directory: Path, *, experts: bool = False) -> Path:
    sizes = {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 4 if experts else LAYERS}
    many = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 2048}
    kind = "qwen3_moe" if experts else "qwen3"
    return tiny.make_model(directory, kind, tied=True, **sizes, **(many if experts else {}))


def peak(spec: JobSpec, model: Path, limit: int) -> tuple[int, int]:
    """Bytes of all weights, and by how much more memory this rank held at worst while they went by."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend
    from rljob_trainer.backend.megatron.export import Export

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    place = backend.chunks, backend.architecture, backend.place, backend.dtype
    for _ in Export(*place, BUCKET).weights():  # what is allocated once is there
        pass
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed and kept would be used again without a trace
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
    before = resident("VmRSS")
    total = sum(tensor.nbytes for _, tensor in Export(*place, limit).weights())
    return total, resident("VmHWM") - before


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class NewTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Bytes of the storages that were made while it lasts: how many are alive, and were at worst."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.alive = self.most = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":
                self._note(leaf.untyped_storage(), given)
        return result

    def _note(self, storage: torch.UntypedStorage, given: set[torch.UntypedStorage]) -> None:
        if storage in self._known or storage in given:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.alive -= size


def most_alive(spec: JobSpec, model: Path, limit: int) -> tuple[int, int]:
    """Bytes of all weights, and of the tensors that were alive beside the model at worst while they went by."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend
    from rljob_trainer.backend.megatron.export import Export

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    export = Export(backend.chunks, backend.architecture, backend.place, backend.dtype, limit)
    with NewTensors() as tensors:
        total = sum(tensor.nbytes for _, tensor in export.weights())
    return total, tensors.most


@pytest.mark.parametrize("cut", [{"tensor": 2}, {"pipeline": 2}, {"expert": 2}], ids=str)
def test_no_more_than_a_bucket_and_two_parameters_are_alive_at_a_time(
    tmp_path: Path, cut: dict[str, int]
) -> None:
    model, spec = large_model(tmp_path, experts="expert" in cut), tiny.megatron_spec(2, cut)
    allowed = (
        1.1 * BUCKET + 2 * PARAMETER
    )  # what is put together, and what the taker still holds of the one before
    for _, most in run_ranks(2, most_alive, spec, model, BUCKET):
        assert BUCKET < most <= allowed, f"{most / MIB:.1f} MiB, of {allowed / MIB:.1f}"
    for _, most in run_ranks(2, most_alive, spec, model, 1024 * MIB):
        assert most > allowed, "what is alive is seen"


@pytest.mark.parametrize(("limit", "bounded"), [(BUCKET, True), (1024 * MIB, False)])
def test_extra_memory_is_that_of_a_bucket(tmp_path: Path, limit: int, bounded: bool) -> None:
    for total, extra in run_ranks(2, peak, STAGES, large_model(tmp_path), limit):
        assert total > 80 * MIB
        assert (extra < total / 2) == bounded, f"{extra / MIB:.1f} MiB of {total / MIB}"
