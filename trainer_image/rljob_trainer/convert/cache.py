"""Where conversions are kept, for all jobs that see the directory.

ROOT/NAME-KEY/            a whole conversion: Megatron's files, and `conversion.json`, which was written last
ROOT/.NAME-KEY.*.tmp      one that is being made, or was when its maker died: see `drafts`
ROOT/.NAME-KEY.lock       held by whoever makes it; what it says is the maker's progress
ROOT/.digests/            what models in directories were found to be

Nothing here is needed once no job starts: all of it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rljob_api.manifest import FileEntry
from rljob_trainer.checkpoint.durable import (
    StorageError,
    gigabytes,
    storage_errors,
    sync_directory,
)
from rljob_trainer.convert.conversion import problem_of, seal
from rljob_trainer.convert.drafts import drafts, is_dead, lock_of, new_draft, time_at
from rljob_trainer.convert.identity import Identity
from rljob_trainer.locks import POLL_SECONDS, Hold, Note, locked, locked_if_free

CONVERSION_VERSION = 1
"""Rises whenever the same model would be written in another way: what older versions made is then not used."""
ROOM = 1.1
"""Free space that is asked for, in sizes of the converted model."""


def cache_root(environment: Mapping[str, str]) -> Path:
    """In the order of NeMo RL: its own variable, the hub's home, the hub's usual home."""
    if own := environment.get("NRL_MEGATRON_CHECKPOINT_DIR", "").strip():
        return Path(own)
    if home := environment.get("HF_HOME", "").strip():
        return Path(home) / "nemo_rl"
    return Path("~/.cache/huggingface/nemo_rl").expanduser()


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
    def lock(self) -> Path:
        return self.root / f".{self.name}.lock"

    def problem(self) -> str | None:
        """Why there is nothing to load from; None for a whole conversion."""
        return problem_of(self.path)

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
            with locked(self.lock, lambda note: wait(_waiting(self.identity.label, note))) as note:
                if (problem := self.problem()) is not None:
                    self._clear(problem, say)
                    self._await_room(size, note.hold, say, wait)
                if self.problem() is not None:
                    self._refuse_without_room(size)
                    self._fill(lambda draft: write(draft, note))
        return self.path

    def _clear(self, problem: str, say: Callable[[str], None]) -> None:
        if self.path.exists():
            say(f"the conversion in {self.path} is damaged ({problem}); it is made anew")
            doomed = new_draft(self.root, self.name)
            self.path.rename(doomed)  # at once: nobody shall find half of it
            shutil.rmtree(doomed)

    def _await_room(
        self, size: int, own: Hold, say: Callable[[str], None], wait: Callable[[str], None]
    ) -> None:
        """While there is none, the conversions that others are making may fail, or be the one that is asked for."""
        while (others := self._sweep(own, say)) and self._free() < ROOM * size and self.problem() is not None:
            wait(f"waiting for room beside {others[0].name}, which another process may be making")
            time.sleep(POLL_SECONDS)

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free

    def _refuse_without_room(self, size: int) -> None:
        needed, free = ROOM * size, self._free()
        if free < needed:
            raise StorageError(
                f"The conversion needs {gigabytes(needed)} in {self.root} ({ROOM} x the model's {gigabytes(size)}),"
                f" where {gigabytes(free)} are free. Free some space, enlarge the claim, or name another directory in"
                " NRL_MEGATRON_CHECKPOINT_DIR."
            )

    def _sweep(self, own: Hold, say: Callable[[str], None]) -> list[Path]:
        """Throw away what makers that died have left, of any model: nobody may ever ask for it again.

        Returns what may still be in the making.
        """
        alive, now = [], time_at(self.lock)
        for draft in drafts(self.root):
            lock = lock_of(draft)
            with nullcontext(own) if lock == self.lock else locked_if_free(lock) as hold:
                if is_dead(draft, hold, now):
                    say(f"an unfinished conversion is thrown away: {draft}")
                    with suppress(FileNotFoundError):  # another throws it away too
                        shutil.rmtree(draft)
                else:
                    alive.append(draft)
        return alive

    def _fill(self, write: Callable[[Path], list[FileEntry]]) -> None:
        draft = new_draft(self.root, self.name)
        draft.mkdir()
        try:
            seal(draft, write(draft), self.identity, CONVERSION_VERSION, self.dtype)
            draft.rename(self.path)
            sync_directory(self.root)
        except OSError:  # where no lock works somebody else may have been first
            if self.problem() is not None:
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _waiting(label: str, note: str) -> str:
    return f"waiting for another process that converts {label}" + (f" ({note})" if note else "")
