"""Loading a model in shards: the weights are those on disk, bit for bit, and no rank has room for all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rljob_api.job import JobSpec
from rljob_trainer.backend.dtensor.backend import DtensorBackend
from rljob_trainer.errors import Mistake
from trainer.ranks import run_ranks
from trainer.test_dtensor import whole
from trainer.tiny import make_model, make_spec

LAYOUTS = [(1, 1), (2, 1), (1, 2), (2, 2)]
"""Data x tensor parallel."""


def loaded(spec: JobSpec, model: Path) -> dict[str, Tensor]:
    """Whole weights and the rotary buffers, as the backend has them."""
    backend = DtensorBackend(spec, model)
    return whole(backend) | dict(backend.policy.hf.named_buffers())


def of_transformers(model: Path) -> dict[str, Tensor]:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return {name: tensor.detach() for name, tensor in [*hf.named_parameters(), *hf.named_buffers()]}


def _store_as(dtype: torch.dtype, model: Path) -> int:
    """Write the weights anew in another type; their size in memory as float32."""
    file = model / "model.safetensors"
    weights = load_file(file)
    save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, file, {"format": "pt"})
    return 4 * sum(tensor.numel() for tensor in weights.values())


@pytest.mark.parametrize(
    ("kind", "tied", "dtype"),
    [("qwen2", True, torch.float32), ("qwen3", False, torch.bfloat16), ("llama", True, torch.bfloat16)],
)
def test_every_layout_loads_what_transformers_loads(
    tmp_path: Path, kind: str, tied: bool, dtype: torch.dtype
) -> None:
    model = make_model(tmp_path / "model", kind, tied=tied)
    _store_as(dtype, model)
    expected = of_transformers(model)
    for data, tensor in LAYOUTS:
        for found in run_ranks(data * tensor, loaded, make_spec(data=data, tensor=tensor), model):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_model_in_several_files_with_scaled_rotary_frequencies_is_loaded_alike(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = make_model(tmp_path / "one", "llama")
    config = AutoConfig.from_pretrained(model)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    hf = AutoModelForCausalLM.from_pretrained(model, config=config)
    hf.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    expected = of_transformers(tmp_path / "many")
    plain = of_transformers(model)
    assert not torch.equal(expected["model.rotary_emb.inv_freq"], plain["model.rotary_emb.inv_freq"])
    found = run_ranks(2, loaded, make_spec(data=2), tmp_path / "many")[0]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def peak_growth(spec: JobSpec, model: Path) -> tuple[int, int]:
    """Bytes that the process grew by at its largest: loading in shards, then as transformers does it by itself.

    Pages of files that were read count, so this bounds what is read as well.
    """
    before = _reset_peak()
    DtensorBackend(spec, model)
    ours = _peak() - before
    before = _reset_peak()
    of_transformers(model)
    return ours, _peak() - before


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    return _peak()


def _peak() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


@pytest.mark.parametrize(("data", "tensor"), [(4, 1), (2, 2)])
def test_a_rank_never_holds_more_than_a_part_of_the_model(tmp_path: Path, data: int, tensor: int) -> None:
    model = make_model(tmp_path, "qwen3", vocab_size=2**16, hidden_size=512)
    whole = _store_as(torch.bfloat16, model)
    for ours, theirs in run_ranks(4, peak_growth, make_spec(data=data, tensor=tensor), model):
        assert ours < 0.65 * whole, "a quarter as shards, its pages of the file, and one slice on its way"
        assert theirs > 0.9 * whole, "the measure sees what it should"


def refusal(model: Path) -> str:
    with pytest.raises(Mistake) as told:
        DtensorBackend(make_spec(data=2), model)
    return str(told.value)


def test_a_directory_that_does_not_hold_the_model_is_a_mistake_told_on_every_rank(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3")
    file = model / "model.safetensors"
    weights = load_file(file)
    norm = weights.pop("model.norm.weight")
    save_file(weights, file)
    told = run_ranks(2, refusal, model)
    assert told[0] == told[1]
    assert "holds the tensor 'model.norm.weight'" in told[0]
    save_file({**weights, "model.norm.weight": norm[:-1].clone()}, file)
    assert "model.norm.weight has shape (63,)" in run_ranks(2, refusal, model)[1]
    file.unlink()
    assert "no *.safetensors file in" in run_ranks(2, refusal, model)[0]
