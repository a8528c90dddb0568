"""What a conversion says of itself, and whether that is true: written last, read before every start."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from rljob_api.base import Record
from rljob_api.manifest import FileEntry
from rljob_trainer.checkpoint.durable import sync_file, write_durably
from rljob_trainer.checkpoint.verify import sha256_of
from rljob_trainer.convert.identity import Identity

FACTS = "conversion.json"


class ConvertedFile(FileEntry):
    """A file of a conversion."""

    modified_ns: int
    """When it was last changed: as long as that and its size hold, it is not hashed again."""


class Conversion(Record):
    """The content of `conversion.json`."""

    model: str
    digest: str
    conversion_version: int
    dtype: str
    megatron_core: str
    time: str
    files: list[ConvertedFile]


def problem_of(path: Path) -> str | None:
    """Why the conversion in `path` cannot be loaded from; None for a whole one."""
    try:
        facts = Conversion.model_validate_json((path / FACTS).read_text())
    except FileNotFoundError:
        return f"{FACTS} is missing" if path.exists() else "there is none yet"
    except (ValidationError, UnicodeDecodeError):
        return f"{FACTS} cannot be read"
    return next((found for file in facts.files if (found := _problem(path / file.path, file))), None)


def seal(draft: Path, flushed: list[FileEntry], identity: Identity, conversion: int, dtype: str) -> None:
    """Everything in `draft` on the disk, then the facts; `flushed` is there already, and hashed."""
    known = {entry.path: entry for entry in flushed}
    for path in draft.iterdir():
        if path.name not in known:
            known[path.name] = _flushed(path)
    facts = Conversion(
        model=identity.label,
        digest=identity.digest,
        conversion_version=conversion,
        dtype=dtype,
        megatron_core=version("megatron-core"),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        files=[
            ConvertedFile(**known[name].model_dump(), modified_ns=(draft / name).stat().st_mtime_ns)
            for name in sorted(known)
        ],
    )
    write_durably(draft / FACTS, facts.model_dump_json(by_alias=True, indent=1))


def _problem(path: Path, file: ConvertedFile) -> str | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return f"{file.path} is missing"
    if stat.st_size != file.bytes:
        return f"{file.path} has {stat.st_size} bytes instead of {file.bytes}"
    if stat.st_mtime_ns != file.modified_ns and sha256_of(path) != file.sha256:
        return f"{file.path} does not match its checksum"
    return None


def _flushed(path: Path) -> FileEntry:
    sync_file(path)
    return FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
