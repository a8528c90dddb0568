"""Where the addition model lives on disk. Called by trainer ranks (whole model) and rollout pods (skeleton).

CACHE/addition-KEY/config.json, tokenizer…   the skeleton: enough for vLLM to start (weights are pushed later)
CACHE/addition-KEY/model.safetensors         appears whole
CACHE/addition-KEY/.warm_start.json          written last: from now on the model is complete
CACHE/addition-KEY.lock                      held by whoever trains; the kernel frees it if the holder dies
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rljob_trainer.locks import locked

from .recipe import Recipe, cache_key, model_config
from .tokenizer import make_tokenizer

COMPLETE = ".warm_start.json"
"""No file of the model: checkpoints and exports leave out what is hidden."""
WAITING = "waiting for another process that makes builtin:addition"


def skeleton_path(cache_dir: Path, recipe: Recipe | None = None) -> Path:
    """The model's directory with at least config and tokenizer in it; made in a second by whoever comes
    first."""
    recipe = recipe or Recipe()
    directory = cache_dir / f"addition-{cache_key(recipe)}"
    if directory.exists():
        return directory
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".skeleton-", dir=cache_dir) as temporary:
        new = Path(temporary) / directory.name
        model_config(recipe).save_pretrained(new)
        make_tokenizer().save_pretrained(new)
        try:
            new.rename(directory)
        except OSError:
            # Another process was first, with the same content; anything else is an error.
            if not directory.exists():
                raise
    return directory


def make_addition_model(
    cache_dir: Path, heartbeat: Callable[[str], None], recipe: Recipe | None = None
) -> Path:
    """The complete model's directory; trained now if it is not there yet, once for all processes that ask.

    `heartbeat` is told the progress every few seconds, also while another process trains. Raises
    `WarmStartError`.
    """
    recipe = recipe or Recipe()
    directory = skeleton_path(cache_dir, recipe)
    if not is_complete(directory):
        with locked(directory.with_name(f"{directory.name}.lock"), lambda _: heartbeat(WAITING)):
            if not is_complete(directory):
                _add_weights(directory, recipe, heartbeat)
    return directory


def is_complete(directory: Path) -> bool:
    return (directory / COMPLETE).exists()


def _add_weights(directory: Path, recipe: Recipe, heartbeat: Callable[[str], None]) -> None:
    from .warm_start import warm_start

    result = warm_start(recipe, heartbeat)
    temporary = directory.with_name(f".{directory.name}.weights")
    shutil.rmtree(temporary, ignore_errors=True)  # of a holder that died; nobody else holds the lock
    # Else transformers would let only rank 0 of a gang write, and the rank that came first may be another.
    result.model.should_save_on_this_rank = lambda is_main_process: is_main_process
    result.model.save_pretrained(temporary)
    _publish(temporary / "model.safetensors", directory)
    facts = {"steps": result.steps, "held_out_accuracy": result.accuracy}
    (temporary / COMPLETE).write_text(json.dumps(facts))
    _publish(temporary / COMPLETE, directory)
    shutil.rmtree(temporary)


def _publish(file: Path, directory: Path) -> None:
    """Move a file into place, whole and on disk before its name is."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.replace(directory / file.name)
