"""`builtin:addition`: the sums, the tokenizer, the cache and, slowly, the promise of the warm start."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rljob_trainer.builtin.addition import Recipe, make_addition_model, skeleton_path
from rljob_trainer.builtin.addition.cache import COMPLETE, is_complete
from rljob_trainer.builtin.addition.muon import orthogonal
from rljob_trainer.builtin.addition.problems import pairs
from rljob_trainer.builtin.addition.recipe import cache_key
from rljob_trainer.builtin.addition.warm_start import (
    NO_LABEL,
    Lessons,
    WarmStartError,
    accuracy_at_temperature_1,
    encode,
    warm_start,
)
from rljob_trainer.checkpoint.files import model_files
from trainer.ranks import run_ranks

SHORT = Recipe(hidden_size=32, intermediate_size=32, heads=1, key_value_heads=1, max_steps=4, check_period=2)
SHORT = replace(SHORT, batch_size=8, accuracy_range=(0.0, 1.0))
"""Learns nothing, in a tenth of a second."""

HOLD = """
import fcntl, signal, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
signal.pause()
"""


def quiet(sentence: str) -> None:
    pass


def made_by_the_last_rank(cache: Path) -> bool:
    """The ranks of a gang on two nodes race for it, and the leader of the second may win."""
    return dist.get_rank() == 0 or is_complete(make_addition_model(cache, quiet, SHORT))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete model, made by the short recipe."""
    return make_addition_model(tmp_path_factory.mktemp("cache"), quiet, SHORT)


def test_whichever_rank_of_a_gang_comes_first_makes_it(tmp_path: Path) -> None:
    assert run_ranks(2, made_by_the_last_rank, tmp_path) == [True, True]


def test_held_out_pairs_are_a_fifth_and_never_trained_on() -> None:
    train, test = set(pairs("train")), set(pairs("test"))
    assert (len(train), len(test)) == (8000, 2000)
    assert not train & test
    lessons = Lessons(Recipe(wrong_labels=0.0))
    held_out = {tuple(row) for row in encode([(f"{a}+{b}=", "") for a, b in test])[0][:, :7].tolist()}
    prompts = {tuple(row) for row in lessons.prompts.tolist()}
    assert len(prompts) == 8000
    assert not {tuple(0 if token == 2 else token for token in row) for row in held_out} & prompts


def test_about_a_third_of_the_lessons_are_wrong(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    lessons = Lessons(Recipe(batch_size=4000))
    tokens_BT, labels_BT = lessons.draw()
    wrong = 0
    for tokens, labels in zip(tokens_BT.tolist(), labels_BT.tolist(), strict=True):
        question = tokenizer.decode(tokens, skip_special_tokens=True).split("=")[0]
        label = tokenizer.decode([label for label in labels if label != NO_LABEL], skip_special_tokens=True)
        wrong += sum(map(int, question.split("+"))) != int(label)
    assert 0.27 < wrong / 4000 < 0.33


def test_a_chat_message_goes_in_as_it_is(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    messages = [{"role": "user", "content": "12+34="}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<bos>12+34="
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer("12+34=")["input_ids"]
    assert len(ids) == 1 + len("12+34=")
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == "12+34="
    done = [*messages, {"role": "assistant", "content": "46"}]
    assert tokenizer.apply_chat_template(done, tokenize=False) == "<bos>12+34=46<eos>"


def test_the_tokenizer_and_the_lessons_speak_the_same_tokens(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens_BT, _ = encode([("12+34=", "46")])
    expected = [*tokenizer("12+34=46")["input_ids"], tokenizer.eos_token_id]
    assert tokens_BT[0].tolist() == expected + [tokenizer.pad_token_id] * (11 - len(expected))


def test_the_model_loads_and_agrees_with_its_facts(model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    facts = json.loads((model / COMPLETE).read_text())
    assert model / COMPLETE not in model_files(model), "an export is another model"
    assert accuracy_at_temperature_1(loaded, pairs("test")) == pytest.approx(facts["held_out_accuracy"])
    assert loaded.config.eos_token_id == AutoTokenizer.from_pretrained(model).eos_token_id


def test_the_skeleton_is_enough_for_config_and_tokenizer(tmp_path: Path) -> None:
    directory = skeleton_path(tmp_path, SHORT)
    assert not is_complete(directory)
    assert not (directory / "model.safetensors").exists()
    assert AutoTokenizer.from_pretrained(directory).pad_token_id == 0
    assert make_addition_model(tmp_path, quiet, SHORT) == directory
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_recipe_is_another_model(model: Path) -> None:
    assert cache_key(SHORT) != cache_key(replace(SHORT, seed=1))
    assert skeleton_path(model.parent, replace(SHORT, seed=1)) != model


def test_a_complete_model_is_not_made_again(model: Path) -> None:
    heard: list[str] = []
    make_addition_model(model.parent, heard.append, SHORT)
    assert heard == []


def test_the_warm_start_repeats_bit_for_bit_and_leaves_random_state_and_threads_alone() -> None:
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, second = (warm_start(SHORT, quiet).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_model_outside_the_range_is_an_error_and_no_cache_entry(tmp_path: Path) -> None:
    recipe = replace(SHORT, accuracy_range=(0.4, 0.55))
    with pytest.raises(WarmStartError, match=r"accuracy of 0\.0.*not between 0\.4 and 0\.55"):
        make_addition_model(tmp_path, quiet, recipe)
    assert not is_complete(skeleton_path(tmp_path, recipe))


def test_a_second_process_waits_with_a_heartbeat_and_then_finds_the_model(tmp_path: Path) -> None:
    directory = skeleton_path(tmp_path, SHORT)
    waiting = threading.Event()
    made: list[Path] = []

    def hear(sentence: str) -> None:
        if "waiting for another process" in sentence:
            waiting.set()

    def ask() -> None:
        made.append(make_addition_model(tmp_path, hear, SHORT))

    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asker = threading.Thread(target=ask)
        asker.start()
        assert waiting.wait(120)
        assert not made
    asker.join(120)
    assert made == [directory]


def test_a_holder_that_is_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    directory = skeleton_path(tmp_path, SHORT)
    half = tmp_path / f".{directory.name}.weights"
    half.mkdir()
    (half / "model.safetensors").write_text("half")
    lock = str(directory.with_name(f"{directory.name}.lock"))
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    assert not is_complete(directory)
    make_addition_model(tmp_path, quiet, SHORT)
    assert is_complete(directory)
    assert not half.exists()
    AutoModelForCausalLM.from_pretrained(directory)


def test_orthogonal_brings_singular_values_near_one() -> None:
    matrix = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))
    for found in (orthogonal(matrix), orthogonal(matrix.T)):
        values = torch.linalg.svdvals(found)
        assert 0.6 < values.min() <= values.max() < 1.3


def test_the_warm_start_ends_where_it_promises_within_its_time(tmp_path: Path) -> None:
    start = time.process_time()
    directory = make_addition_model(tmp_path, quiet)
    facts = json.loads((directory / COMPLETE).read_text())
    assert 0.4 <= facts["held_out_accuracy"] <= 0.55
    assert time.process_time() - start < 120
    assert sum(weight.numel() for weight in load_file(directory / "model.safetensors").values()) < 500_000


def test_experts_stray_a_little_from_the_dense_model_that_they_were(tmp_path: Path) -> None:
    dense = AutoModelForCausalLM.from_pretrained(make_addition_model(tmp_path, quiet, SHORT))
    sure = replace(SHORT, experts=4, expert_noise=0.0)
    alike = AutoModelForCausalLM.from_pretrained(make_addition_model(tmp_path, quiet, sure))
    apart = AutoModelForCausalLM.from_pretrained(
        make_addition_model(tmp_path, quiet, replace(SHORT, experts=4))
    )
    tokens_BT, _ = encode([("12+34=", "46")])
    expected, same, strayed = (m(tokens_BT).logits for m in (dense, alike, apart))
    torch.testing.assert_close(same, expected)
    assert 0 < (strayed - expected).abs().max() < 1
    assert apart.config.model_type == "qwen3_moe"
