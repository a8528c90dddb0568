"""What a conversion writes, what it asks for, and what it says of a model that it cannot take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rljob_api.progress import EXIT_VOLUME_UNUSABLE, Ending
from rljob_trainer.convert import cache
from rljob_trainer.convert.cache import Entry, cache_root
from rljob_trainer.convert.conversion import FACTS
from rljob_trainer.convert.hf_source import INDEX
from rljob_trainer.convert.identity import Identity, identity_of
from rljob_trainer.convert.once import find_converted
from rljob_trainer.errors import Mistake
from trainer import tiny
from trainer.converting import (
    LOGGING_LEVEL,
    SIZES,
    Step,
    assert_is_the_model,
    conversion_run,
    drafts,
    ended,
    entries,
    growth,
    hf_tensors,
    largest_layer,
    spy_on_calls,
)
from trainer.ranks import run_ranks

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tied": True},
    "qwen3": {"tied": True, "num_hidden_layers": 3},
    "qwen3_moe": EXPERTS | {"moe_intermediate_size": 24},
    "mixtral": EXPERTS,
}


def make_model(directory: Path, kind: str = "qwen3", **sizes: Any) -> Path:
    return tiny.make_model(directory, kind, **SIZES | sizes)


def convert(folder: Path, model: Path, **facts: Any) -> Step:
    """The step, ended, as a process of its own; all of a test share a cache."""
    step = Step(folder, conversion_run(folder, model), f"step-{len(list(folder.glob('*.log')))}", **facts)
    with ended(step):
        step.start().end()
    return step


def converted(folder: Path, model: Path) -> Path:
    """The only conversion that there is after a step that ended well."""
    step = convert(folder, model)
    assert step.end() == 0, step.said()
    assert "Warning" not in step.said(), "libraries drown what is said"
    (entry,) = entries(folder / "cache")
    return entry


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_holds_every_tensor_bit_for_bit(tmp_path: Path, kind: str) -> None:
    model = make_model(tmp_path / "model", kind, **KINDS[kind])
    entry = converted(tmp_path, model)
    assert_is_the_model(entry, model)
    assert len(list(entry.glob("*.distcp"))) == 2


def test_a_model_in_many_files_is_read_through_its_index(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    split_files(model)
    assert_is_the_model(converted(tmp_path, model), model)


def split_files(model: Path) -> list[Path]:
    """Three files and an index, as the hub has large models."""
    from safetensors.torch import save_file

    tensors = hf_tensors(model)
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {f"model-0000{n + 1}-of-00003.safetensors": names[n::3] for n in range(3)}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, model / file)
    index = {"weight_map": {name: file for file, own in files.items() for name in own}}
    (model / INDEX).write_text(json.dumps(index))
    return [model / file for file in files]


def pieces(model: Path, directory: Path, least: int) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of what is stored of some tensors, when pieces may be as small as `least` bytes."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    from rljob_trainer.convert import plan
    from rljob_trainer.convert.write import write_model

    plan.LEAST_PIECE_BYTES = least
    directory.mkdir()
    write_model(model, directory, torch.float32)
    found = FileSystemReader(directory).read_metadata().state_dict_metadata
    return {
        name: [tuple(chunk.sizes) for chunk in facts.chunks]
        for name, facts in found.items()
        if isinstance(facts, TensorStorageMetadata)
    }


def test_large_matrices_are_stored_in_the_pieces_that_tensor_ranks_ask_for(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", num_key_value_heads=4, vocab_size=64)
    (stored,) = run_ranks(1, pieces, model, tmp_path / "small", 1)
    layers = "decoder.layers."
    assert set(stored[f"{layers}self_attention.linear_qkv.weight"]) == {(1, 24, 32)}  # 4 groups of q, k, v
    assert set(stored[f"{layers}mlp.linear_fc1.weight"]) == {
        (1, 6, 32)
    }  # 8 of the gate, 8 of the up projection
    assert set(stored[f"{layers}mlp.linear_fc2.weight"]) == {(1, 32, 6)}  # columns
    assert set(stored["embedding.word_embeddings.weight"]) == {(8, 32)}
    assert_is_the_model(tmp_path / "small", model)


def test_the_step_turns_off_what_makes_ranks_wait_and_gives_itself_time(tmp_path: Path) -> None:
    step = convert(tmp_path, make_model(tmp_path / "model"), spied_on=True)
    said = step.said().splitlines()
    assert said.count("save fully parallel False, validated False") == 2
    assert said.count("group timeout 4:00:00") == 2
    assert said.count(f"megatron logs from {LOGGING_LEVEL}") == 2
    assert "gather metadata of all ranks" not in said


def by_default(model: Path, directory: Path, log: Path) -> None:
    from rljob_trainer.convert.write import write_model

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    spy_on_calls()
    write_model(model, directory, torch.float32)


def test_without_arguments_a_conversion_saves_as_megatron_does(tmp_path: Path) -> None:
    """The control of the test above: both switches reach Megatron, and the same model comes out."""
    model, entry = make_model(tmp_path / "model"), tmp_path / "out"
    entry.mkdir()
    run_ranks(2, by_default, model, entry, tmp_path / "log")
    said = (tmp_path / "log").read_text().splitlines()
    assert said.count("save fully parallel True, validated True") == 2
    assert said.count("gather metadata of all ranks") == 2
    assert_is_the_model(entry, model)


def memory_of_a_rank(folder: Path) -> int:
    """Of a rank that has converted before, so that nothing is imported for the first time."""
    from rljob_trainer.convert.write import write_model

    def convert(name: str) -> None:
        write_model(folder / name, folder / f"{name}-out", torch.float32, validate_access_integrity=False)

    convert("small")
    return growth(lambda: convert("large"))


def memory_of_all(model: Path) -> int:
    kept: list[object] = []
    return growth(lambda: kept.extend(tensor.clone() for tensor in hf_tensors(model).values()))


def test_no_rank_holds_more_than_its_part_of_the_model_and_a_layer(tmp_path: Path) -> None:
    large: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "head_dim": 128,
        "vocab_size": 8192,
    }
    make_model(tmp_path / "small")
    model = make_model(tmp_path / "large", tied=True, num_hidden_layers=8, **large)
    size = sum(tensor.nbytes for tensor in hf_tensors(model).values())
    for name in ("small-out", "large-out"):
        (tmp_path / name).mkdir()
    allowed = size // 4 + largest_layer(model)
    grown = run_ranks(4, memory_of_a_rank, tmp_path)
    assert [one for one in grown if one > allowed] == []
    assert run_ranks(1, memory_of_all, model)[0] > size > allowed  # what is held is seen


def test_directories_come_in_the_order_of_nemo_rl() -> None:
    own = {"NRL_MEGATRON_CHECKPOINT_DIR": "/own", "HF_HOME": "/hub"}
    assert cache_root(own) == Path("/own")
    assert cache_root(own | {"NRL_MEGATRON_CHECKPOINT_DIR": " "}) == Path("/hub/nemo_rl")
    assert cache_root({}) == Path("~/.cache/huggingface/nemo_rl").expanduser()


def identity(folder: Path, model: Path) -> Identity:
    return identity_of(conversion_run(folder, model).spec.model, model, folder / "digests")


def test_a_directory_is_known_by_its_content(tmp_path: Path) -> None:
    model, same = make_model(tmp_path / "one"), make_model(tmp_path / "two")
    assert identity(tmp_path, model) == identity(tmp_path, same)
    other = make_model(tmp_path / "three", tied=True)
    assert identity(tmp_path, model) != identity(tmp_path, other)
    before = identity(tmp_path, model)
    flip_a_byte(model / "model.safetensors")
    assert identity(tmp_path, model) != before


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path) -> None:
    run = conversion_run(tmp_path, Path("/m"))
    model = run.spec.model.model_copy(update={"source": "Qwen/Qwen3-8B", "revision": "main"})
    snapshots = tmp_path / "models--Qwen--Qwen3-8B" / "snapshots"
    one, two = (identity_of(model, snapshots / commit, tmp_path) for commit in ("abc", "def"))
    assert (one.label, one.digest, two.digest) == ("Qwen--Qwen3-8B", "Qwen/Qwen3-8B@abc", "Qwen/Qwen3-8B@def")


def test_dtype_and_conversion_version_are_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Identity("local", "1")
    names = {Entry(tmp_path, one, dtype).name for dtype in ("float32", "bfloat16")}
    monkeypatch.setattr(cache, "CONVERSION_VERSION", cache.CONVERSION_VERSION + 1)
    names |= {Entry(tmp_path, one, "float32").name, Entry(tmp_path, Identity("local", "2"), "float32").name}
    assert len(names) == 4


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a byte": ("__0_0.distcp", flip_a_byte, "__0_0.distcp does not match its checksum"),
    "cut short": ("__1_0.distcp", truncate, "bytes instead of"),
    "missing": (".metadata", Path.unlink, ".metadata is missing"),
    "no facts": (FACTS, Path.unlink, f"{FACTS} is missing"),
    "other facts": (FACTS, lambda path: path.write_text("{"), f"{FACTS} cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_conversion_is_made_anew_and_that_is_said(tmp_path: Path, damage: str) -> None:
    file, do, words = DAMAGES[damage]
    model = make_model(tmp_path / "model")
    entry = converted(tmp_path, model)
    do(entry / file)
    again = convert(tmp_path, model)
    (said,) = [line for line in again.said().splitlines() if "is damaged" in line]
    assert words in said
    assert_is_the_model(entry, model)


def test_a_whole_conversion_is_left_alone(tmp_path: Path) -> None:
    """Also if its files were copied to another place, and so were written at another time."""
    model = make_model(tmp_path / "model")
    entry = converted(tmp_path, model)
    before = (entry / FACTS).stat().st_ino
    for file in entry.glob("*.distcp"):
        os.utime(file)
    assert converted(tmp_path, model) == entry
    assert (entry / FACTS).stat().st_ino == before


FINDING = "rljob_trainer.convert.step, rljob_trainer.builtin.addition"


def test_who_finds_a_conversion_imports_no_torch() -> None:
    """It would cost every restart seconds before training, which imports it anyway, begins."""
    code = f"import {FINDING}, sys; print({{'torch', 'transformers'}} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def lose_a_file(model: Path) -> None:
    split_files(model)[1].unlink()


def cut_a_file(model: Path) -> None:
    truncate(model / "model.safetensors")


def lose_a_tensor(model: Path) -> None:
    write_tensors(
        model, {name: one for name, one in hf_tensors(model).items() if name != "model.norm.weight"}
    )


def add_a_tensor(model: Path) -> None:
    """And two that nobody misses: a head that is tied, and what is computed anyway."""
    change_config(tie_word_embeddings=True)(model)
    more = {"self_attn.q_proj.bias": 16, "self_attn.rotary_emb.inv_freq": 4}
    write_tensors(model, hf_tensors(model) | {f"model.layers.1.{n}": torch.ones(s) for n, s in more.items()})


def write_tensors(model: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, model / "model.safetensors")


def change_config(**facts: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | facts))

    return change


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file": (lose_a_file, "1 of 3 weight files are missing in "),
    "half a file": (cut_a_file, "model.safetensors is not whole ("),
    "a tensor": (lose_a_tensor, "holds no tensor 'model.norm.weight', nor 0 others"),
    "a tensor too many": (
        add_a_tensor,
        "holds a tensor 'model.layers.1.self_attn.q_proj.bias', and 0 others",
    ),
    "architecture": (change_config(model_type="gpt_neox"), "no mapping for model type 'gpt_neox'"),
    "shape": (change_config(vocab_size=99), "has shape (67, 32), the model's configuration says (99, 32)"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_model_that_cannot_be_converted_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    spoil, words = BAD[what]
    model = make_model(tmp_path / "model")
    spoil(model)
    step = convert(tmp_path, model)
    assert (step.end(), step.words().ending) == (2, Ending.MISTAKE)
    assert step.words().message.startswith("spec.model.source: ")
    assert words in step.words().message
    assert entries(tmp_path / "cache") == []


def test_a_layout_that_the_model_does_not_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    step = Step(tmp_path, conversion_run(tmp_path, make_model(tmp_path / "model"), 3, pipeline=3))
    with ended(step):
        assert (step.start().end(), step.words().ending) == (2, Ending.MISTAKE)
    assert (
        "spec.parallelism.pipeline: 3 does not divide 2, the number of the model's layers"
        in step.words().message
    )
    assert entries(tmp_path / "cache") == []


def test_without_room_it_is_refused_with_both_numbers_before_any_work(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", vocab_size=4096)
    size = sum(tensor.nbytes for tensor in hf_tensors(model).values())
    step = convert(tmp_path, model, free_bytes=int(1.09 * size))
    assert (step.end(), step.words().ending) == (EXIT_VOLUME_UNUSABLE, Ending.VOLUME_UNUSABLE)
    assert f"The conversion needs {1.1 * size / 1e6:.1f} MB in {tmp_path}/cache" in step.words().message
    assert f"where {1.09 * size / 1e6:.1f} MB are free" in step.words().message
    assert (entries(tmp_path / "cache"), drafts(tmp_path / "cache")) == ([], [])
    assert convert(tmp_path, model, free_bytes=int(1.11 * size)).end() == 0


def test_training_without_a_conversion_says_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model")
    monkeypatch.setenv("NRL_MEGATRON_CHECKPOINT_DIR", str(tmp_path / "cache"))
    with pytest.raises(Mistake, match=r"there is none yet\. It is made by `python -m rljob_trainer convert`"):
        find_converted(conversion_run(tmp_path, model), model)
