"""A checkpoint does not go into a model of other sizes, though it may carry the same name."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch.distributed as dist

from rljob_trainer import train
from rljob_trainer.checkpoint.architecture import refuse_other_architecture
from rljob_trainer.checkpoint.files import MODEL_FILES
from rljob_trainer.distributed import Ranks
from rljob_trainer.errors import Mistake
from rljob_trainer.progress import ProgressBoard
from trainer.checkpoints import a_run, alone

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


def test_a_rank_refuses_it_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, none = a_run(tmp_path), cast("Any", None)
    plan = SimpleNamespace(directory=config(tmp_path / "step_40" / MODEL_FILES).parent)
    model = config(tmp_path / "model", hidden_size=128)
    monkeypatch.setattr(train, "plan_resume", lambda *_: plan)
    monkeypatch.setattr(train, "load_reward", lambda _: None)
    monkeypatch.setattr(train, "whole_model", lambda *_: model)
    alone()
    ranks = Ranks(0, 0, 1, none, dist.new_group(backend="gloo"))
    with ExitStack() as open_things, pytest.raises(Mistake, match="is of another architecture"):
        train.prepare(run, ranks, ProgressBoard(run), none, open_things)
