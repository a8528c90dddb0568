"""`rljob checkpoint export`: one process makes of any backend's checkpoint what transformers loads, bit for bit.

That vLLM loads it too is seen in `test_weights_sync`, where there are servers.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

from rljob_cli.checkpoint import app
from rljob_trainer.backend.hf_files import write_directory
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from trainer.checkpoints import VERSIONS, a_run, save_model
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.test_megatron import make_model, make_spec


def export(volume: Path, target: Path) -> str:
    result = CliRunner().invoke(app, ["export", str(volume), "--to", str(target)])
    assert result.exit_code == 0, result.exception
    return result.stdout


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dtensor_checkpoint_is_exported_in_the_type_that_the_model_came_in(
    tmp_path: Path, dtype: str
) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen3Config(**shape, num_key_value_heads=1, head_dim=32, vocab_size=64, tie_word_embeddings=True)
    config.dtype = dtype
    model = Qwen3ForCausalLM(config)
    config.save_pretrained(tmp_path / "hf")
    save_model(a_run(tmp_path / "volume"), model, tmp_path / "hf")
    assert export(tmp_path / "volume", tmp_path / "out") == f"step 1 is in {tmp_path / 'out'}\n"
    assert len({file.stat().st_mode for file in (tmp_path / "out").iterdir()}) == 1
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    expected = {name: tensor.to(getattr(torch, dtype)) for name, tensor in model.state_dict().items()}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_no_library_tells_of_the_folder_that_is_renamed_once_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_directory({"weight": torch.ones(2)}, "{}", [], tmp_path / "export.tmp-1")
    assert caplog.messages == []


def save_megatron(layout: tuple[int, int, int], model: Path, volume: Path) -> dict[str, torch.Tensor]:
    """A checkpoint by all ranks; the weights as the backend itself hands them out."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(make_spec(*layout), model, converted(model), reference=False)
    run = a_run(volume)
    if torch.distributed.get_rank() == 0:
        open_storage(run)
    torch.distributed.barrier()
    Saver(run, Storage.of(run), backend, VERSIONS, model).save(LoopState(step=1), rng=backend.rng_state())
    return {name: tensor.clone() for name, tensor in backend.weights()}


@pytest.mark.parametrize(
    ("kind", "tied", "layout"),
    [("llama", True, (1, 2, 1)), ("qwen2", False, (2, 1, 1)), ("qwen3", False, (2, 1, 2))],
)
def test_a_megatron_checkpoint_of_any_layout_is_exported(
    tmp_path: Path, kind: str, tied: bool, layout: tuple[int, int, int]
) -> None:
    tensor, pipeline, data = layout
    model = make_model(tmp_path / "model", kind, tied=tied)
    args = (layout, model, tmp_path / "volume")
    weights = run_ranks(tensor * pipeline * data, save_megatron, *args)[0]
    words = ["checkpoint", "export", str(tmp_path / "volume"), "--to", str(tmp_path / "out")]
    said = subprocess.run(
        [sys.executable, "-m", "rljob_cli", *words], capture_output=True, text=True, check=True
    )
    assert (said.stdout, said.stderr) == (f"step 1 is in {tmp_path / 'out'}\n", "")
    loaded = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "out").named_parameters())
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
