"""Weights leave the gang bucket by bucket: however large the model, a rank needs room for little more of it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from rljob_api.job import JobSpec
from trainer import tiny
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.test_megatron_layouts import make_spec

MIB = 1 << 20
BUCKET = 6 * MIB
LAYERS = 16


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


@pytest.mark.parametrize(("limit", "bounded"), [(BUCKET, True), (1024 * MIB, False)])
def test_extra_memory_is_that_of_buckets(tmp_path: Path, limit: int, bounded: bool) -> None:
    model = tiny.make_model(
        tmp_path, "qwen3", tied=True, num_hidden_layers=LAYERS, hidden_size=256, intermediate_size=2048
    )
    for total, extra in run_ranks(2, peak, make_spec("virtual-stages"), model, limit):
        assert total > 80 * MIB
        assert (extra < total / 2) == bounded, f"{extra / MIB:.1f} MiB of {total / MIB}"
