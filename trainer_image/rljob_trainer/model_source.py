"""Where the model of `spec.model` is on this machine. Called by trainers and by rollout servers alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rljob_api.model import BUILTIN_ADDITION, BUILTIN_MODELS, Model, why_no_model
from rljob_api.run import Run
from rljob_trainer.checkpoint.durable import storage_errors
from rljob_trainer.errors import Mistake


def whole_model(run: Run, tell: Callable[[str], None]) -> Path:
    """The model's directory with its weights, made or fetched if need be. Raises `Mistake`,
    `StorageError` without room for it, and `UnreachableError`."""
    source = run.spec.model.source
    if source in BUILTIN_MODELS:
        from rljob_trainer.builtin.addition import RECIPES, make_addition_model

        with storage_errors(Path(run.paths.cache), "Making the model"):
            return make_addition_model(Path(run.paths.cache), tell, RECIPES[source])
    if run.spec.model.is_directory:
        return checked_directory(source)
    tell(f"fetching {source} at revision {run.spec.model.revision}")
    return fetched(run.spec.model)


def checked_directory(source: str) -> Path:
    """The directory of a path source. Raises `Mistake` if no model is there."""
    path = Path(source).expanduser().absolute()
    if problem := why_no_model(path):
        raise Mistake(
            f"spec.model.source: {source!r} {problem}. Give the directory of a Hugging Face checkpoint, an id such as"
            f" Qwen/Qwen3-8B, or {BUILTIN_ADDITION}."
        )
    return path


def fetched(model: Model) -> Path:
    """The local snapshot of a Hugging Face id, downloaded once into the hub's own cache. Raises `Mistake`,
    `StorageError` if there is no room for it, and `UnreachableError`."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    from rljob_trainer.hub import HUB_ERRORS, refusal

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py"]
    try:
        with storage_errors(Path(HF_HUB_CACHE), "Fetching the model"):
            return Path(snapshot_download(model.source, revision=model.revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise Mistake(
            f"spec.model.source: the hub has no model {model.source!r} that you may read. Check the id; a gated model"
            " needs HF_TOKEN in the environment. A directory must start with / or ./"
        ) from error
    except RevisionNotFoundError as error:
        raise Mistake(
            f"spec.model.revision: the hub has no revision {model.revision!r} of the model {model.source!r}. Give a"
            " branch, a tag or a commit that it has."
        ) from error
    except HUB_ERRORS as error:
        what = f"spec.model.source: {model.source!r} at revision {model.revision!r}"
        place = "a directory that starts with / or ./"
        raise refusal(what, place, error, offline=is_offline_mode()) from error
