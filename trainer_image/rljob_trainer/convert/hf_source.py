"""The tensors of a Hugging Face directory, one at a time. What is wrong with it is said before any of them is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rljob_trainer.errors import Mistake

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FIELD = "spec.model.source"
COMPUTED = ("rotary_emb.inv_freq",)
"""Ends of names that old files keep and every library computes for itself."""


class HfSource:
    """Safetensors files, with an index or alone."""

    def __init__(self, directory: Path) -> None:
        """Raises `Mistake` if a file is missing or not whole."""
        self.directory = directory
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, torch.Size] = {}
        """By name, of every tensor in every file."""
        files = _files(directory)
        if missing := [file.name for file in files if not file.is_file()]:
            raise Mistake(
                f"{FIELD}: {len(missing)} of {len(files)} weight files are missing in {directory}, the first is"
                f" {missing[0]}; download the model again"
            )
        for file in files:
            self._look_into(file)

    def refuse_without(self, names: Iterable[str]) -> None:
        """Raises `Mistake` unless every tensor of `names` is there."""
        if missing := [name for name in names if name not in self.shapes]:
            raise Mistake(
                f"{FIELD}: {self.directory} holds no tensor {missing[0]!r}, nor {len(missing) - 1} others that its"
                " configuration asks for; is the download complete?"
            )

    def refuse_beyond(self, names: Iterable[str]) -> None:
        """Raises `Mistake` if there is a tensor beside `names` that matters: the model would be without it."""
        if beyond := sorted(name for name in self.shapes.keys() - set(names) if not name.endswith(COMPUTED)):
            raise Mistake(
                f"{FIELD}: {self.directory} holds a tensor {beyond[0]!r}, and {len(beyond) - 1} others, that its"
                " configuration does not ask for; training would leave them out. Does config.json belong to these"
                " files?"
            )

    def read(self, name: str) -> Tensor:
        """Mapped, not copied: it costs no memory beside the page cache, until it is changed or let go."""
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def _look_into(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    self._files[name] = path
                    self.shapes[name] = torch.Size(file.get_slice(name).get_shape())
        except SafetensorError as error:
            raise Mistake(f"{FIELD}: {path} is not whole ({error}); download the model again") from error


def _files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if not index.exists():
        return [directory / SINGLE]
    try:
        return [
            directory / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Mistake(f"{FIELD}: {index} is no index of weight files; download the model again") from error
