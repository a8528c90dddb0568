"""`spec.model`: what is trained."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from .base import KeyReference, Spec

BUILTIN_ADDITION = "builtin:addition"
"""A tiny Qwen3 that is made on the spot and already half knows how to add: no hub, no download."""
BUILTIN_ADDITION_MOE = "builtin:addition-moe"
"""The same with four experts a layer, a tiny Qwen3-MoE."""
BUILTIN_MODELS = (BUILTIN_ADDITION, BUILTIN_ADDITION_MOE)


CONFIG = "config.json"


def why_no_model(directory: Path) -> str:
    """What is wrong with a Hugging Face directory, to follow its name; empty if its configuration names a model."""
    try:
        config = json.loads((directory / CONFIG).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return f"has no {CONFIG}" if directory.is_dir() else "is not a directory"
    except PermissionError:
        return f"has a {CONFIG} that may not be read"
    except ValueError:
        return f"has a {CONFIG} that is not JSON"
    named = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    return "" if named else f"has a {CONFIG} that names no model_type"


class Model(Spec):
    """The model to train, as a Hugging Face checkpoint."""

    source: str = Field(min_length=1, max_length=1024)
    """Hugging Face id (`Qwen/Qwen3-8B`), a directory, or `builtin:addition`, a tiny Qwen3 made on the spot, or
    `builtin:addition-moe`, the same with experts."""
    revision: str = Field("main", min_length=1, max_length=128)
    """Branch, tag or commit of a Hugging Face id; without effect on a directory."""
    token_secret_ref: KeyReference | None = None
    """Secret of the job's namespace with a Hugging Face token. `rljob run` takes your own instead."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave it off for models that you have not read."""

    @property
    def is_directory(self) -> bool:
        """Whether `source` means a path: it starts like one. A Hugging Face id never does."""
        return self.source.startswith(("/", "./", "../", "~"))
