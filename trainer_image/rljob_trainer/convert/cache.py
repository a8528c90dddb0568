"""Where conversions are kept, for all jobs that see the directory.

ROOT/NAME-KEY/            a whole conversion: Megatron's files, and `conversion.json`, which was written last
ROOT/.NAME-KEY.tmp        one that is being made, or was when its maker died
ROOT/.NAME-KEY.lock       held by whoever makes it; what it says is the maker's progress
ROOT/.digests/            what models in directories were found to be

Nothing here is needed once no job starts: all of it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from rljob_api.base import Record
from rljob_api.manifest import FileEntry
from rljob_trainer.checkpoint.durable import (
    StorageError,
    storage_errors,
    sync_directory,
    sync_file,
    write_durably,
)
from rljob_trainer.checkpoint.verify import sha256_of
from rljob_trainer.convert.identity import Identity
from rljob_trainer.locks import Note, locked

CONVERSION_VERSION = 1
"""Rises whenever the same model would be written in another way: what older versions made is then not used."""
FACTS = "conversion.json"
ROOM = 1.1
"""Free space that is asked for, in sizes of the converted model."""


def cache_root(environment: Mapping[str, str]) -> Path:
    """In the order of NeMo RL: its own variable, the hub's home, the hub's usual home."""
    if own := environment.get("NRL_MEGATRON_CHECKPOINT_DIR", "").strip():
        return Path(own)
    if home := environment.get("HF_HOME", "").strip():
        return Path(home) / "nemo_rl"
    return Path("~/.cache/huggingface/nemo_rl").expanduser()


class ConvertedFile(FileEntry):
    """A file of a conversion."""

    modified_ns: int
    """When it was last changed: as long as that and its size hold, it is not hashed again."""


class Conversion(Record):
    """What a conversion says of itself."""

    model: str
    digest: str
    conversion_version: int
    dtype: str
    megatron_core: str
    time: str
    files: list[ConvertedFile]


@dataclass(frozen=True)
class Entry:
    """The place of one conversion."""

    root: Path
    identity: Identity
    dtype: str

    @property
    def name(self) -> str:
        key = json.dumps([self.identity.digest, CONVERSION_VERSION, self.dtype])
        return f"{self.identity.label}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def draft(self) -> Path:
        return self.root / f".{self.name}.tmp"

    def problem(self) -> str | None:
        """Why there is nothing to load from; None for a whole conversion."""
        try:
            facts = Conversion.model_validate_json((self.path / FACTS).read_text())
        except FileNotFoundError:
            return f"{FACTS} is missing" if self.path.exists() else "there is none yet"
        except (ValidationError, UnicodeDecodeError):
            return f"{FACTS} cannot be read"
        return next((found for file in facts.files if (found := self._problem(file))), None)

    def make(
        self,
        size: int,
        write: Callable[[Path, Note], list[FileEntry]],
        say: Callable[[str], None],
        wait: Callable[[str], None],
    ) -> Path:
        """The whole conversion of `size` bytes, made by `write` unless it is there: once for all that ask at a time.

        `write` gets an empty directory and tells what it has flushed there. `say` hears what was found amiss, `wait`
        several times a second for whom it waits. Raises `StorageError` without room.
        """
        with storage_errors(self.root, "The conversion"):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.root / f".{self.name}.lock"
            with locked(lock, lambda note: wait(_waiting(self.identity.label, note))) as note:
                problem = self.problem()
                if problem is not None:
                    self._clear(problem, say)
                    self._refuse_without_room(size)
                    self.draft.mkdir()
                    self._publish(write(self.draft, note))
        return self.path

    def _problem(self, file: ConvertedFile) -> str | None:
        path = self.path / file.path
        try:
            stat = path.stat()
        except FileNotFoundError:
            return f"{file.path} is missing"
        if stat.st_size != file.bytes:
            return f"{file.path} has {stat.st_size} bytes instead of {file.bytes}"
        if stat.st_mtime_ns != file.modified_ns and sha256_of(path) != file.sha256:
            return f"{file.path} does not match its checksum"
        return None

    def _clear(self, problem: str, say: Callable[[str], None]) -> None:
        """What a dead maker left, and what is damaged, goes."""
        if self.draft.exists():
            say(f"an unfinished conversion of {self.identity.label} is thrown away")
            shutil.rmtree(self.draft)
        if self.path.exists():
            say(f"the conversion in {self.path} is damaged ({problem}); it is made anew")
            self.path.rename(self.draft)  # at once: nobody shall find half of it
            shutil.rmtree(self.draft)

    def _refuse_without_room(self, size: int) -> None:
        needed, free = ROOM * size, shutil.disk_usage(self.root).free
        if free < needed:
            raise StorageError(
                f"The conversion needs {gigabytes(needed)} in {self.root} ({ROOM} x the model's {gigabytes(size)}),"
                f" where {gigabytes(free)} are free. Free some space, enlarge the claim, or name another directory in"
                " NRL_MEGATRON_CHECKPOINT_DIR."
            )

    def _publish(self, flushed: list[FileEntry]) -> None:
        """Everything on the disk, then the facts, then the name."""
        known = {entry.path: entry for entry in flushed}
        for path in self.draft.iterdir():
            if path.name not in known:
                sync_file(path)
                known[path.name] = FileEntry(
                    path=path.name, bytes=path.stat().st_size, sha256=sha256_of(path)
                )
        facts = Conversion(
            model=self.identity.label,
            digest=self.identity.digest,
            conversion_version=CONVERSION_VERSION,
            dtype=self.dtype,
            megatron_core=version("megatron-core"),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            files=[
                ConvertedFile(**entry.model_dump(), modified_ns=(self.draft / entry.path).stat().st_mtime_ns)
                for entry in sorted(known.values(), key=lambda entry: entry.path)
            ],
        )
        write_durably(self.draft / FACTS, facts.model_dump_json(by_alias=True, indent=1))
        self.draft.rename(self.path)
        sync_directory(self.root)


def gigabytes(size: float) -> str:
    """For sentences."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _waiting(label: str, note: str) -> str:
    return f"waiting for another process that converts {label}" + (f" ({note})" if note else "")
