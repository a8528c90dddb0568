"""The job's directory on the checkpoint volume: its layout, whose it is, and who may write.

job.json                 name and UID of the job: a reused name or a retained claim never resumes a stranger; where
                         the one before finished no step, the next job of its name takes its place
initial.json             which checkpoint of another job this one has begun with (`initial.py`)
basis.json               what the furthest finished step depended on (`basis.py`)
attempts/000002-<token>  the fence (`fence.py`); in it how far the attempt, and any before it, came (`past.py`)
checkpoints/step_40      whole and verified when written; step_60.tmp-000002-<token> is being written by attempt 2
quarantine/              what did not verify, moved aside, for people
rollouts/                finished groups of steps that are not saved yet (`rollout/kept.py`)
samples/ tensorboard/ export/ last_words/
.trash/                  on its way out
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from rljob_api.base import Record
from rljob_api.checkpoint import InitialCheckpoint
from rljob_api.run import Run
from rljob_trainer.errors import Mistake

from .durable import remove_tree, storage_errors, sync_directory, write_durably
from .fence import Fence, check_fence, is_reached, take_fence

JOB_FILE = "job.json"
INITIAL_FILE = "initial.json"
STATE = "state"
"""Folder inside a checkpoint that belongs to the backend."""
_STEP = re.compile(r"step_(\d+)")
_DRAFT = re.compile(r"step_\d+\.tmp-(\d+)(-.*)?")


class Owner(Record):
    """Content of `job.json`."""

    name: str
    uid: str


@dataclass(frozen=True)
class Directory:
    """Paths of a job's directory; reading only, so that anybody may use it."""

    root: Path

    @property
    def owner(self) -> Owner:
        return Owner.model_validate_json((self.root / JOB_FILE).read_bytes())

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def rollouts(self) -> Path:
        return self.root / "rollouts"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def export(self) -> Path:
        return self.root / "export"

    @property
    def last_words(self) -> Path:
        return self.root / "last_words"

    @property
    def trash(self) -> Path:
        return self.root / ".trash"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step}"

    def steps(self) -> list[int]:
        """Steps that a checkpoint directory stands for, oldest first; drafts are not among them."""
        names = (_STEP.fullmatch(path.name) for path in self.checkpoints.glob("*"))
        return sorted(int(name[1]) for name in names if name)


@dataclass(frozen=True)
class Storage(Directory):
    """The directory, as one attempt of its owner writes to it. Made by `open_storage`, on rank 0."""

    job: Owner
    mine: Fence

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(
            root=Path(run.paths.storage),
            job=Owner(name=run.name, uid=run.uid),
            mine=Fence(run.attempt, run.token),
        )

    def draft(self, step: int) -> Path:
        """Where this attempt, and no other of any job, writes a checkpoint before it is whole."""
        return self.checkpoints / f"step_{step}.tmp-{self.mine.file}"

    def check_fence(self) -> None:
        """Raise `FencedError` unless this attempt may still write."""
        check_fence(self.attempts, self.mine)

    def check_newer(self) -> None:
        """The same for the parent of the ranks, which may write before rank 0 has taken the volume."""
        if is_reached(self.attempts, self.mine):
            self.check_fence()

    def publish(self, step: int) -> None:
        """Give this attempt's draft its final name. Raises `FencedError` if a newer attempt has taken the volume."""
        self.check_fence()
        try:
            self.draft(step).rename(self.checkpoint(step))
        except FileNotFoundError:
            self.check_fence()
            raise
        sync_directory(self.checkpoints)

    def quarantine_checkpoint(self, step: int) -> Path:
        """Move a checkpoint aside, so that nothing ever loads it, and say where it went."""
        self.check_fence()
        path = self.checkpoint(step)
        aside = self.quarantine / f"{path.name}.{path.stat().st_ino}"
        path.rename(aside)
        sync_directory(self.checkpoints)
        return aside

    def remove_checkpoint(self, step: int) -> None:
        """Raises `FencedError` if a newer attempt has taken the volume: it may go on from this one."""
        self.check_fence()
        remove_tree(self.checkpoint(step), self.trash)


def open_storage(run: Run) -> Storage:
    """Make the folders, refuse a stranger's directory if anything is in it, take the fence, clear what older
    attempts left half-written.

    The order matters: once the fence stands, an older writer fails its own check; one that had passed the
    check before loses its draft here and fails at the rename. So what this attempt sees afterwards is all
    that there will ever be.
    Raises `Mistake` (stranger, read-only), `StorageError` (full) or `FencedError` (a newer attempt writes
    here).
    """
    storage = Storage.of(run)
    with storage_errors(storage.root, "Opening the job's directory"):
        _make_folders(storage)
        _claim(storage, run.spec.checkpoint.storage.claim_name)
        take_fence(storage.attempts, storage.mine)
        _clear(storage)
    return storage


def _make_folders(storage: Storage) -> None:
    folders = ("attempts", "checkpoints", "quarantine", "samples", "tensorboard", "last_words", "trash")
    for folder in folders:
        path: Path = getattr(storage, folder)
        path.mkdir(parents=True, exist_ok=True)


def _claim(storage: Storage, claim_name: str | None) -> None:
    if not (storage.root / JOB_FILE).exists():
        if storage.steps():
            raise Mistake(
                f"{storage.root} holds checkpoints but no {JOB_FILE}, so nobody knows whose they are. Give"
                f" job"
                f" {storage.job.name!r} an empty directory, or move the checkpoints away."
            )
        _write_owner(storage)
    owner = _owner(storage)
    if owner.uid == storage.job.uid:
        return
    if owner.name != storage.job.name or _holds_something(storage):
        raise Mistake(_belongs_to(owner, storage, claim_name))
    _take_over(storage)


def _write_owner(storage: Storage) -> None:
    write_durably(storage.root / JOB_FILE, storage.job.model_dump_json(by_alias=True))


def _holds_something(storage: Storage) -> bool:
    """Whether a step was ever finished here, as far as anything of it is left: samples are there before that. Kept
    rollouts are of use to no other job."""
    folders = (storage.quarantine, storage.samples, storage.export)
    return bool(storage.steps()) or any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def _take_over(storage: Storage) -> None:
    """Make the directory this job's, where one that had its name before finished no step.

    The other's fence goes first, so that whoever of it is still about may not write any more; then its drafts, without
    which one that had passed the check fails at the rename. The new owner's name comes last: after a crash in between
    the next attempt does all of it.
    """
    drafts = [path for path in storage.checkpoints.iterdir() if _DRAFT.fullmatch(path.name)]
    for path in (storage.attempts, *drafts, storage.rollouts):
        if path.exists():
            remove_tree(path, storage.trash)
    (storage.root / INITIAL_FILE).unlink(missing_ok=True)
    storage.attempts.mkdir()
    _write_owner(storage)


def _belongs_to(owner: Owner, storage: Storage, claim_name: str | None) -> str:
    """A sentence, and how to go on."""
    job, steps = storage.job, storage.steps()
    initial = (
        InitialCheckpoint(rljob_name=owner.name, step=steps[-1], claim_name=claim_name) if steps else None
    )
    way_on = f" To go on from there, create it under another name with {initial.told}." if initial else ""
    place = "that directory" if claim_name else f"the claim (kubectl delete pvc {job.name}-storage)"
    return (
        f"{storage.root} belongs to another job: {owner.name!r} with UID {owner.uid}, and this is {job.name!r} with UID"
        f" {job.uid}.{way_on} If nobody needs what is there, delete this job, then {place}, and create it again; with"
        " rljob run remove the directory, or choose another --work-dir."
    )


def _owner(storage: Storage) -> Owner:
    try:
        return storage.owner
    except ValidationError as error:
        raise Mistake(
            f"{storage.root / JOB_FILE} is damaged, so nobody knows whose the directory is. If it is job"
            f" {storage.job.name!r}'s, write this into it: {storage.job.model_dump_json(by_alias=True)}"
        ) from error


def _clear(storage: Storage) -> None:
    for path in storage.checkpoints.iterdir():
        draft = _DRAFT.fullmatch(path.name)
        if draft and int(draft[1]) <= storage.mine.attempt:
            remove_tree(path, storage.trash)
    for path in storage.trash.iterdir():
        shutil.rmtree(path)
