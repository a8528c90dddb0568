"""A checkpoint does not go into a model of other sizes, though it may carry the same name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rljob_trainer.checkpoint.architecture import refuse_other_architecture
from rljob_trainer.checkpoint.files import MODEL_FILES
from rljob_trainer.errors import Mistake

SMALL = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "use_cache": True}


def config(directory: Path, **changes: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(SMALL | changes))
    return directory


def test_a_model_of_other_sizes_is_refused_with_the_numbers(tmp_path: Path) -> None:
    checkpoint = config(tmp_path / "step_40" / MODEL_FILES).parent
    with pytest.raises(Mistake) as refusal:
        refuse_other_architecture(checkpoint, config(tmp_path / "model", hidden_size=128, model_type="llama"))
    assert "model_type was qwen3 and is llama, hidden_size was 64 and is 128" in str(refusal.value)


def test_what_does_not_shape_weights_may_change(tmp_path: Path) -> None:
    checkpoint = config(tmp_path / "step_40" / MODEL_FILES).parent
    refuse_other_architecture(checkpoint, config(tmp_path / "model", use_cache=False))


def test_without_a_checkpoint_there_is_nothing_to_refuse(tmp_path: Path) -> None:
    refuse_other_architecture(None, config(tmp_path / "model"))
