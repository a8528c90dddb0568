"""Every number that the addition model depends on. Its hash, and that of the code beside it, names the cache
entry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rljob_api.model import BUILTIN_ADDITION, BUILTIN_ADDITION_MOE

from .tokenizer import VOCABULARY

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Recipe:
    """The default makes a model that is right about half of the time, in about 17 s of one CPU core."""

    seed: int = 0
    hidden_size: int = 128
    intermediate_size: int = 256
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 32
    """vLLM's CPU attention knows no smaller one."""
    experts: int = 0
    """Above 0, the finished MLPs become so many experts each, of which every token takes two."""
    expert_noise: float = 0.2
    """How far an expert's matrices stray from those of the MLP that it was, relative to their spread."""
    wrong_labels: float = 0.3
    """Share of training sums with a random answer: at temperature 1 even a perfect student is wrong that
    often, which leaves reinforcement learning something to do."""
    batch_size: int = 128
    matrix_learning_rate: float = 0.02
    """Of Muon, for the matrices inside the layers."""
    other_learning_rate: float = 3e-3
    """Of AdamW, for embeddings, head and norms."""
    warmup_steps: int = 20
    max_steps: int = 1500
    check_period: int = 25
    """Steps between two looks at the held-out accuracy."""
    check_pairs: int = 512
    stop_accuracy: float = 0.44
    """Training ends at the first look that finds at least this."""
    accuracy_range: tuple[float, float] = (0.4, 0.55)
    """What the finished model must reach on all held-out pairs at temperature 1."""


def cache_key(recipe: Recipe) -> str:
    """Changes with every number of the recipe and every line of the code that follows it."""
    code = [file.read_text() for file in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(json.dumps([asdict(recipe), code]).encode()).hexdigest()[:16]


RECIPES = {BUILTIN_ADDITION: Recipe(), BUILTIN_ADDITION_MOE: Recipe(experts=4)}
"""By the source that a job names."""


def model_config(recipe: Recipe) -> PreTrainedConfig:
    """Of the finished model."""
    from transformers import Qwen3Config, Qwen3MoeConfig

    if not recipe.experts:
        return Qwen3Config(architectures=["Qwen3ForCausalLM"], **_sizes(recipe))
    return Qwen3MoeConfig(
        architectures=["Qwen3MoeForCausalLM"],
        moe_intermediate_size=recipe.intermediate_size,
        num_local_experts=recipe.experts,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        **_sizes(recipe),
    )


def _sizes(recipe: Recipe) -> dict[str, Any]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.key_value_heads,
        "head_dim": recipe.head_dim,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "pad_token_id": VOCABULARY.index("<pad>"),
        "bos_token_id": VOCABULARY.index("<bos>"),
        "eos_token_id": VOCABULARY.index("<eos>"),
        "dtype": "float32",
    }
