"""Whether a checkpoint is of the model that is there now: a name may stand for other files than it did."""

from __future__ import annotations

import json
from pathlib import Path

from rljob_api.base import Manifest
from rljob_api.model import CONFIG
from rljob_trainer.errors import Mistake

from .files import MODEL_FILES

SIZES = (
    *("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "moe_intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"),
    *("num_experts", "num_local_experts", "num_experts_per_tok"),
)
"""Of a Hugging Face configuration: what the shape of weights follows from."""


def refuse_other_architecture(checkpoint: Path | None, model: Path) -> None:
    """Raises `Mistake` if weights of `checkpoint` do not fit into the Hugging Face directory `model`."""
    if checkpoint is None or not (checkpoint / MODEL_FILES / CONFIG).exists():
        return
    then, now = _sizes(checkpoint / MODEL_FILES), _sizes(model)
    differing = [name for name in SIZES if then.get(name) != now.get(name)]
    if differing:
        told = ", ".join(f"{name} was {then.get(name)} and is {now.get(name)}" for name in differing)
        raise Mistake(
            f"spec.model.source: the checkpoint {checkpoint} is of another architecture: {told}. Put the model back,"
            " or set spec.resume.policy to Never."
        )


def _sizes(directory: Path) -> Manifest:
    config: Manifest = json.loads((directory / CONFIG).read_text())
    return config
