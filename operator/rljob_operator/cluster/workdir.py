"""The work directory of a local job: everything that outlives `rljob run`, so that the same command goes on from there.

job.json        uid, generation, spec, folder    status.json     the RLJob status
storage/        the claim: checkpoints, export   config/         ConfigMaps and Secrets, a directory each
logs/           a file per pod                   pods/           termination messages
lock            the process that runs the job now
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rljob_api.checkpoint import ResumePolicy
from rljob_api.job import ACCEPTED, JobSpec, RLJob
from rljob_api.reasons import Reason
from rljob_api.rules import broken_edit_rules, sentences
from rljob_api.status import Condition, ConditionType, Replacement, Status

FOLDERS = ("storage", "config", "logs", "pods")
LOCK = "lock"
LOOK_SECONDS = 1.0
"""Who asks whether a job is run has the lock for a moment, which must not keep it from being started."""
UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
"""What its disk may answer to who writes there."""
OF_CHECKPOINTS = ("model", "backend")
"""What of a spec its checkpoints belong to."""


class WorkDirError(Exception):
    """The work directory cannot be used; the message says why and what to do."""


class WorkDir:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.storage = self.path / "storage"
        self.config = self.path / "config"
        self.logs = self.path / "logs"
        self.pods = self.path / "pods"
        self._lock: int | None = None

    def open(self) -> None:
        """Make it, try to write to it, and lock it. Raises `WorkDirError`."""
        try:
            self._make_folders()
            self._lock = self._take_lock()
        except OSError as error:
            raise self.unusable(error) from error

    def is_run(self) -> bool:
        """Whether a process runs the job there now."""
        try:
            with (self.path / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def clear(self) -> None:
        """Remove all that is there but the lock, which must be ours. Raises `WorkDirError`."""
        try:
            for left in self.path.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != LOCK:
                    left.unlink()
            self._make_folders()
        except OSError as error:
            raise WorkDirError(
                f"what an earlier run left in {self.path} cannot be removed: {error}; remove it yourself"
            ) from error

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def unusable(self, error: OSError) -> WorkDirError:
        reason = error.strerror or str(error)
        return WorkDirError(
            f"cannot write to the work directory {self.path}: {reason}; "
            "make it writable or free some space there, or choose another with --work-dir"
        )

    def is_removed(self) -> bool:
        """Whether somebody took it away, or a part of it, since it was opened."""
        return not all((self.path / name).exists() for name in (*FOLDERS, LOCK))

    def identify(self, job: RLJob, folder: Path) -> RLJob:
        """The job with its uid, its generation (rises when the spec changed) and its last status; its relative paths
        start at `folder`. Raises `WorkDirError` for a change that its checkpoints forbid."""
        spec = json.loads(job.spec.model_dump_json(by_alias=True))
        known, status = self._known(), self.read_status()
        self._refuse_other(job, known)
        _refuse_edit(known.get("spec"), job.spec, status)
        changed = known.get("spec") not in (None, spec)
        identity = {
            "name": job.metadata.name,
            "uid": known.get("uid") or str(uuid.uuid4()),
            "generation": known.get("generation", 1) + changed,
            "spec": spec,
            "folder": str(folder.resolve()),
        }
        write(self._identity, json.dumps(identity, indent=2))
        metadata = job.metadata.model_copy(
            update={"uid": identity["uid"], "generation": identity["generation"]}
        )
        return job.model_copy(
            update={"metadata": metadata, "status": reopened(status, changed) if status else None}
        )

    def job_folder(self) -> Path:
        """Where relative paths of the job start; here, if that folder is gone or was never noted."""
        folder = Path(self._known().get("folder", "."))
        return folder if folder.is_dir() else Path.cwd()

    def read_status(self) -> Status | None:
        """None before the first. Raises `WorkDirError` for one that was not written here so."""
        path = self.path / "status.json"
        try:
            return Status.model_validate_json(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise WorkDirError(f"{path} {_why_unread(error)}") from error

    def write_status(self, status: Status) -> None:
        write(self.path / "status.json", status.model_dump_json(by_alias=True, indent=2))

    @property
    def _identity(self) -> Path:
        return self.path / "job.json"

    def _known(self) -> dict[str, Any]:
        """The identity as it was written last; empty before the first run."""
        return dict(json.loads(self._identity.read_text())) if self._identity.exists() else {}

    def _refuse_other(self, job: RLJob, known: dict[str, Any]) -> None:
        if known.get("name", job.metadata.name) != job.metadata.name:
            raise WorkDirError(
                f"the work directory {self.path} belongs to the job {known['name']}, not to {job.metadata.name}; "
                "choose another with --work-dir"
            )

    def _make_folders(self) -> None:
        for folder in FOLDERS:
            (self.path / folder).mkdir(parents=True, exist_ok=True)

    def _take_lock(self) -> int:
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + LOOK_SECONDS
        while not _locked(lock):
            if time.monotonic() > deadline:
                holder = os.read(lock, 32).decode() or "unknown"
                os.close(lock)
                raise WorkDirError(
                    f"the job in {self.path} is already run by process {holder}; "
                    "stop that one first (Ctrl-C or `kill`), or run in another place (`rljob run --work-dir`)"
                )
            time.sleep(LOOK_SECONDS / 100)
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        return lock


def _locked(lock: int) -> bool:
    """Whether it is ours now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_edit(old: object, new: JobSpec, status: Status | None) -> None:
    """By the rules that an API server asks too, as far as they are about checkpoints, and not about a cluster. Older
    versions did not note a spec, but its digest."""
    kept = status is not None and status.checkpoint.count > 0 and new.resume.policy is not ResumePolicy.NEVER
    if not kept or not isinstance(old, dict):
        return
    before = JobSpec.model_validate_json(json.dumps(old), context=ACCEPTED)
    if broken := [rule for rule in broken_edit_rules(before, new) if rule.path in OF_CHECKPOINTS]:
        raise WorkDirError(sentences(broken))


def _why_unread(error: ValueError) -> str:
    """A status is written whole or not at all: what is JSON, and does not fit, is no damage, but has newer words."""
    strange = error.errors() if isinstance(error, ValidationError) else []
    places = ", ".join(".".join(map(str, one["loc"])) for one in strange if one["loc"])
    if not places:
        return "is damaged; remove it, and the next `rljob run` writes it anew"
    return (
        f"was written by a newer rljob: this one does not know what it says in {places}; update `rljob` here"
    )


def reopened(status: Status, changed: bool) -> Status:
    """What a new run starts from: a job that failed goes on as after a suspension, its restarts forgiven.

    So does a complete one whose spec has changed since. One that waited for a choice looks again. Nobody took the
    servers of a run that was killed: they ended with it.
    """
    status = status.model_copy(update={"rollout": status.rollout.model_copy(update={"present": []})})
    if status.attempt is not None:
        # As if the job had been edited: whatever was in the way may be gone.
        status = status.model_copy(update={"attempt": status.attempt.model_copy(update={"generation": 0})})
    complete = {ConditionType.SUCCESS_CRITERIA_MET, ConditionType.COMPLETE}
    over = {ConditionType.FAILURE_TARGET, ConditionType.FAILED} | (complete if changed else set())
    if not any(one.type in over and one.status == "True" for one in status.conditions):
        return status
    kept = [one for one in status.conditions if one.type not in over | {ConditionType.SUSPENDED}]
    suspended = Condition(type=ConditionType.SUSPENDED, status="True", reason=Reason.RUN_AGAIN)
    return status.model_copy(
        update={
            "conditions": [*kept, suspended],
            "restarts_count_towards_max": 0,
            "rollout": status.rollout.model_copy(
                update={"replacements": [_forgiven(one) for one in status.rollout.replacements]}
            ),
            "completion_time": "",
        }
    )


def _forgiven(replacement: Replacement) -> Replacement:
    return replacement.model_copy(update={"failures_in_a_row": 0, "not_before": ""})


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all: written beside, flushed to the disk, renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
