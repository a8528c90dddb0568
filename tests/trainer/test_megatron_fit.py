"""Models and layouts that do not fit are refused from the model's configuration alone, with the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rljob_api.parallelism import Parallelism
from rljob_trainer.errors import Mistake
from trainer.ranks import run_ranks

SIZES = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "intermediate_size": 48,
}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "heads": (
        "qwen3",
        {"tensor": 4},
        "tensor: 4 does not divide 2, the number of the model's key-value heads",
    ),
    "columns": (
        "qwen3",
        {"tensor": 2},
        "tensor: 2 does not divide 49, the number of the model's MLP columns",
    ),
    "layers": ("qwen3", {"pipeline": 3}, "pipeline: 3 does not divide 4, the number of the model's layers"),
    "one-layer": (
        "qwen3",
        {"pipeline": 4, "virtualPipeline": 3},
        "virtualPipeline: 3 does not divide 1, the number of the model's layers on a pipeline rank; set it to 1",
    ),
    "pieces": (
        "qwen3",
        {"pipeline": 2, "virtualPipeline": 3},
        "virtualPipeline: 3 does not divide 2, the number of the model's layers on a pipeline rank; choose one of 1, 2",
    ),
    "experts": ("qwen3_moe", {"expert": 4}, "expert: 4 does not divide 6, the number of the model's experts"),
    "columns-of-experts": (
        "mixtral",
        {"expertTensor": 5},
        "expertTensor: 5 does not divide 48, the number of the model's columns in an expert; choose one of 1, 2, 3, 4",
    ),
    "no-experts": (
        "qwen3",
        {"expert": 2},
        "expert: 2 ranks cannot share the experts of a model that has none",
    ),
    "same-tokens": ("mixtral", {"tensor": 2}, "sequence: the 2 tensor ranks would all send the same tokens"),
}
VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "rotary": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        "'linear'",
    ),
    "stretched-otherwise": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 4096,
            }
        },
        "8192 only, not with low_freq_factor 1.0, high_freq_factor 4.0, original_max_position_embeddings 4096",
    ),
    "half-rotary": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 1e4}},
        "in whole heads only, not in 0.5 of each",
    ),
    "biases": (
        "llama",
        {"attention_bias": True, "mlp_bias": True},
        "'llama' without attention_bias and mlp_bias only",
    ),
    "bias": ("qwen3_moe", {"attention_bias": True}, "'qwen3_moe' without attention_bias only"),
    "window": ("mixtral", {"sliding_window": 16}, "not over a sliding window of 16"),
    "activation": ("llama", {"hidden_act": "gelu"}, "the activation 'silu' only, not 'gelu'"),
    "some-dense": ("qwen3_moe", {"mlp_only_layers": [1]}, "models whose layers all have experts, or none"),
    "one-expert": ("mixtral", {"num_experts_per_tok": 1}, "two or more experts a token"),
    "unknown": (
        "gpt_neox",
        {},
        "no mapping for model type 'gpt_neox' (it knows llama, mixtral, qwen2, qwen3",
    ),
}
ONLY_MEGATRONS = ("window", "bias", "some-dense", "one-expert", "unknown")
"""Of these, those that the other backend does not know either."""


def configured(directory: Path, kind: str, **changes: Any) -> Path:
    from transformers import AutoConfig

    AutoConfig.for_model(kind, **SIZES | changes).save_pretrained(directory)
    return directory


def answers(models: dict[str, Path], cuts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What is said of each model, and of a model under a cut; asked in a process that may import Megatron."""
    from rljob_trainer.backend.megatron.architecture import read_architecture
    from rljob_trainer.backend.megatron.fit import refuse_uneven

    said = {}
    for case, model in models.items():
        try:
            architecture = read_architecture(model)
            refuse_uneven(architecture, Parallelism())
            refuse_uneven(architecture, Parallelism.model_validate(cuts.get(case, {})))
        except Mistake as mistake:
            said[case] = str(mistake)
    return said


def test_layouts_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    odd = {"columns": {"intermediate_size": 49}}
    models = {
        case: configured(tmp_path / case, kind, **odd.get(case, {})) for case, (kind, _, _) in REFUSED.items()
    }
    (said,) = run_ranks(1, answers, models, {case: cut for case, (_, cut, _) in REFUSED.items()})
    for case, (_, _, sentence) in REFUSED.items():
        assert said[case].startswith(f"spec.parallelism.{sentence}")


def test_models_that_would_be_computed_otherwise_are_refused(tmp_path: Path) -> None:
    models = {case: configured(tmp_path / case, kind, **how) for case, (kind, how, _) in VARIANTS.items()}
    (said,) = run_ranks(1, answers, models, {})
    for case, (_, _, sentence) in VARIANTS.items():
        assert sentence in said[case]
        way_on = "choose another model" if case in ONLY_MEGATRONS else "use backend: dtensor"
        assert said[case].endswith(f"; {way_on}")
