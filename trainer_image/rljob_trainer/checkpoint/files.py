"""The files of a draft beside the backend's: what an export needs, and the checksums of what has none yet."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from rljob_api.manifest import FileEntry

from .durable import StorageError, sync_directory, sync_file
from .verify import sha256_of

MODEL_FILES = "hf"
"""Folder inside a checkpoint with the model's configuration and tokenizer, so that an export needs nothing else."""
WEIGHTS = re.compile(r"\.(safetensors|bin|pt|pth|h5|msgpack|onnx|gguf)(\.index\.json)?$|^\.")


def copy_model_files(directory: Path | None, draft: Path) -> None:
    """Configuration and tokenizer of a Hugging Face directory, into the draft."""
    folder = draft / MODEL_FILES
    folder.mkdir()
    for file in model_files(directory) if directory else []:
        shutil.copyfile(file, folder / file.name)
    sync_directory(folder)


def model_files(directory: Path) -> list[Path]:
    """Configuration and tokenizer of a Hugging Face directory: everything but weights."""
    files = (path for path in sorted(directory.iterdir()) if path.is_file())
    return [path for path in files if not WEIGHTS.search(path.name)]


def unhashed(draft: Path, hashed: list[FileEntry]) -> list[str]:
    """Files beside those, the largest first. Raises `StorageError` if one of those is not as long as it was written."""
    files = (path for path in draft.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(draft)): path.stat().st_size for path in files}
    for entry in hashed:
        if (size := sizes.pop(entry.path, 0)) != entry.bytes:
            raise StorageError(
                f"Saving a checkpoint failed: {entry.bytes} bytes were written to {entry.path}, and the volume"
                f" holds {size}."
            )
    return sorted(sizes, key=lambda name: -sizes[name])


def synced_entry(draft: Path, name: str) -> FileEntry:
    """The file as the manifest lists it, once it is on disk."""
    path = draft / name
    sync_file(path)
    return FileEntry(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))
