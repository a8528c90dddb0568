"""`rljob checkpoint`, on the volume of a job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save as save_state_dict
from transformers import Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

from rljob_cli.checkpoint import app
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.export import parameters
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from trainer.checkpoints import VERSIONS, FileBackend, a_run, alone, save


def rljob_checkpoint(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output or str(result.exception)


def test_ls_shows_whole_and_broken_ones(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path / "work" / "volumes" / "claim"), 1, 2)
    (second.path / "state" / "rank_0.bin").unlink()
    code, text = rljob_checkpoint("ls", tmp_path / "work", "--output", "json")
    rows = json.loads(text)
    assert code == 0
    assert [(row["step"], row["layout"]) for row in rows] == [(1, "tp1-pp1-dp1"), (2, "tp1-pp1-dp1")]
    assert [row["problem"] for row in rows] == ["", "state/rank_0.bin is missing or has another size"]
    assert rljob_checkpoint("ls", tmp_path / "work")[0] == 0


def test_verify_reads_every_byte_and_fails_by_exit_code(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path), 1, 2)
    assert rljob_checkpoint("verify", tmp_path) == (0, "step 1: whole\nstep 2: whole\n")
    (second.path / "state" / "rank_0.bin").write_bytes(b"weightt2")
    assert rljob_checkpoint("verify", tmp_path, "--step", 1)[0] == 0
    assert rljob_checkpoint("verify", tmp_path) == (
        1,
        "step 1: whole\nstep 2: state/rank_0.bin does not match its checksum\n",
    )


def test_verify_answers_programs_too(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path), 1, 2)
    (second.path / "state" / "rank_0.bin").unlink()
    code, text = rljob_checkpoint("verify", tmp_path, "-o", "json")
    assert code == 1
    assert json.loads(text) == [
        {"step": 1, "problems": []},
        {"step": 2, "problems": ["state/rank_0.bin cannot be read: No such file or directory"]},
    ]


def test_ls_does_not_import_torch() -> None:
    code = "import rljob_cli.checkpoint, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_parameters_are_read_by_one_process_without_a_group(tmp_path: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    save_state_dict(
        {"model": {"lm_head.weight": weight}, "optimizer": {"step": 1}}, checkpoint_id=tmp_path, no_dist=True
    )
    (name, read), *others = parameters(tmp_path).items()
    assert (name, others) == ("lm_head.weight", [])
    assert torch.equal(read, weight)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_an_exported_checkpoint_loads_in_transformers_with_the_same_weights(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen3Config(**shape, num_key_value_heads=1, head_dim=32, vocab_size=64, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config)
    config.save_pretrained(tmp_path / "hf")

    class Backend(FileBackend):
        def save_checkpoint(self, directory: Path, **_: object) -> Written:
            save_state_dict({"model": model.state_dict()}, checkpoint_id=directory, no_dist=True)
            return list

    alone()
    run = a_run(tmp_path / "volume")
    saver = Saver(run, open_storage(run), Backend(), VERSIONS, tmp_path / "hf")  # type: ignore[arg-type]
    saver.save(LoopState(step=4), rng=0)
    assert rljob_checkpoint("export", tmp_path / "volume", "--to", tmp_path / "out")[0] == 0
    loaded = Qwen3ForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
