"""Asking rollout servers, as far as it needs none: seeds, routing, arguments, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rljob_api.algorithm import Sampling
from rljob_trainer.batch import Prompt
from rljob_trainer.errors import Mistake
from rljob_trainer.rollout.answers import CutOffError, check_length, completion_request, samples_of
from rljob_trainer.rollout.dispatch import least_loaded
from rljob_trainer.rollout.guard import TOKEN_ENV
from rljob_trainer.rollout.seeds import prompt_seed
from rljob_trainer.rollout.server import arguments, check_numa, environment
from trainer.vllm_server import a_run

PROMPT = Prompt(index=7, text="12+34=", token_ids=[5, 6, 7], answer="46")


def test_a_seed_follows_from_run_occasion_and_prompt_alone() -> None:
    assert prompt_seed(42, "train-1", 7) == prompt_seed(42, "train-1", 7) == 16012994475684598
    others = [prompt_seed(43, "train-1", 7), prompt_seed(42, "train-2", 7), prompt_seed(42, "train-1", 8)]
    assert len({prompt_seed(42, "train-1", 7), *others}) == 4
    assert all(seed + 1024 < 2**63 for seed in others)


def test_the_server_with_least_in_hand_is_asked_next() -> None:
    assert least_loaded({0: 3, 1: 1, 2: 1}, limit=4) == 1
    assert least_loaded({0: 4, 1: 4}, limit=4) is None
    assert least_loaded({}, limit=4) is None


def test_all_completions_of_a_prompt_are_one_request_of_token_ids() -> None:
    request = completion_request(PROMPT, 16, Sampling(temperature="0.7", stop=["\n"]), seed=9)
    assert (request["prompt"], request["n"], request["seed"]) == ([5, 6, 7], 16, 9)
    assert (request["temperature"], request["stop"], request["return_token_ids"]) == (0.7, ["\n"], True)


def an_answer(finish_reason: str = "stop", logprobs: list[float] | None = None) -> dict[str, Any]:
    second = {"index": 1, "token_ids": [8], "text": "4", "finish_reason": "length"}
    first = {"index": 0, "token_ids": [8, 2], "text": "4", "finish_reason": finish_reason}
    return {
        "choices": [
            second | {"logprobs": {"token_logprobs": [-1.0]}},
            first | {"logprobs": {"token_logprobs": logprobs or [-0.5, -0.25]}},
        ]
    }


def test_an_answer_becomes_samples_in_order_of_their_numbers() -> None:
    samples = samples_of(an_answer(), PROMPT, version=3)
    assert [(s.number, s.token_ids, s.logprobs) for s in samples] == [
        (0, [8, 2], [-0.5, -0.25]),
        (1, [8], [-1.0]),
    ]
    assert {s.weight_version for s in samples} == {3}


@pytest.mark.parametrize("answer", [an_answer("abort"), an_answer(logprobs=[-0.5])])
def test_a_completion_that_was_cut_off_is_no_sample(answer: dict[str, Any]) -> None:
    with pytest.raises(CutOffError):
        samples_of(answer, PROMPT, version=3)


def test_a_prompt_that_leaves_no_room_is_named_with_what_to_do() -> None:
    check_length(PROMPT, max_new_tokens=5, max_model_len=8)
    with pytest.raises(Mistake, match=r"prompt 7 has 3 tokens, but at most 2 fit.*maxModelLen"):
        check_length(PROMPT, max_new_tokens=6, max_model_len=8)


def test_a_server_on_cpu_runs_in_float32_with_a_small_cache(tmp_path: Path) -> None:
    line = " ".join(arguments(a_run(tmp_path), "/model", "127.0.0.11"))
    assert "--dtype float32 --kv-cache-memory-bytes 33554432 --enforce-eager" in line
    assert "--logprobs-mode processed_logprobs" in line
    assert "--host 127.0.0.11" in line


def test_a_server_on_gpu_runs_in_bfloat16_with_its_share_of_memory(tmp_path: Path) -> None:
    rollout = {"replicas": 2, "tensorParallel": 4, "vllm": {"gpuMemoryUtilization": "0.8"}}
    run = a_run(tmp_path, trainer={"gpusPerNode": 2}, rollout=rollout)
    line = " ".join(arguments(run, "org/model", "127.0.0.11"))
    assert "--dtype bfloat16 --gpu-memory-utilization 0.8" in line
    assert "--tensor-parallel-size 4" in line
    assert "--revision main" in line
    assert "eager" not in line


def test_extra_arguments_come_last_so_that_they_win(tmp_path: Path) -> None:
    run = a_run(tmp_path, rollout={"vllm": {"extraArgs": ["--max-num-batched-tokens", "512"]}})
    assert arguments(run, "/model", "127.0.0.11")[-2:] == ["--max-num-batched-tokens", "512"]


def test_the_token_is_in_the_environment_and_not_on_the_command_line(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    inherited = {"VLLM_CPU_KVCACHE_SPACE": "4", "HOME": "/root", TOKEN_ENV: "secret"}
    assert not any("secret" in word for word in arguments(run, "/model", "127.0.0.11"))
    variables = environment(run, "/model", inherited)
    assert variables[TOKEN_ENV] == "secret"
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables
    assert variables["HOME"] == "/root"


def test_a_machine_without_libnuma_is_told_what_to_install() -> None:
    with pytest.raises(Mistake, match=r"apt-get install libnuma1"):
        check_numa("libnuma-that-is-not-there.so")
