"""Weights of a model with experts against real vLLM, whose own reload leaves experts unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3MoeConfig

from requirements.interrupted import build
from rljob_api.algorithm import Sampling
from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_trainer.builtin.addition.tokenizer import make_tokenizer
from rljob_trainer.rollout.answers import completion_request, samples_of
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.weights.sync import WeightSync
from trainer.ranks import run_ranks
from trainer.test_megatron import files_of
from trainer.test_megatron_moe import make_spec
from trainer.vllm_server import (
    Alone,
    a_run,
    largest_difference,
    new_weights,
    nothing,
    servers_of,
    some_prompts,
)

LEFT_UNPACKED = (
    "from rljob_trainer.weights import vllm_engine; vllm_engine.pack_on_reload = lambda model: None"
)


def make_model(directory: Path) -> PreTrainedModel:
    """A tiny Qwen3-MoE with a tokenizer."""
    config = Qwen3MoeConfig(
        architectures=["Qwen3MoeForCausalLM"],
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_local_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    torch.manual_seed(0)
    model = new_weights(AutoModelForCausalLM.from_config(config).eval(), 0)
    model.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return model


def export(spec: JobSpec, source: Path, target: Path) -> None:
    """As a job of Megatron does at its end."""
    build(spec, source).save_hf_model(target)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    make_model(tmp_path / "source")
    run_ranks(2, export, make_spec(expert=2, ranks=2), tmp_path / "source", tmp_path / "model")
    with servers_of(a_run(tmp_path, replicas=1), tmp_path, "--load-format", "auto") as (_, fleet):
        yield fleet


def test_experts_are_right_after_every_push_and_wrong_after_a_reload_of_vllm_itself(
    fleet: Fleet, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    (server,) = fleet.look()
    prompt, sync = some_prompts(1)[0], WeightSync(a_run(tmp_path, replicas=1), Alone(), fleet)

    def ask(path: str, body: Manifest) -> Manifest:
        return fleet.run(server.client.post(path, body, "answering"), nothing).body

    def difference() -> float:
        """Between vLLM's log-probabilities and those of transformers under the weights that it should have."""
        answer = ask("/v1/completions", completion_request(prompt, 8, Sampling(max_new_tokens=16), seed=0))
        return largest_difference(model, samples_of(answer, prompt, 0))

    def weights() -> Iterator[tuple[str, Tensor]]:
        model.save_pretrained(tmp_path / "now")  # experts one by one, as a backend gives them
        return iter(files_of(tmp_path / "now").items())

    assert difference() < 1e-4
    ask("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "model")}})
    assert difference() > 0.1, "vLLM packs experts again by itself: vllm_experts.py is not needed any more"
    for step in (1, 2):
        new_weights(model, seed=step)
        sync.push(weights, step, nothing)
        assert difference() < 1e-4
