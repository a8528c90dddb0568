"""How long each phase has been silent, kept on the volume so that the next attempt knows."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rljob_api.progress import TrainPhase
from rljob_trainer.checkpoint.directory import Directory, Storage
from rljob_trainer.checkpoint.durable import write_durably

from .evidence import FOLDER, within
from .limits import History

KEEP_SECONDS = 60.0
"""Least time between two writes."""
GROWN = 1.1
"""What has not grown by so much is not worth one."""
_FILE = TypeAdapter(dict[TrainPhase, float])


def read(storage: Directory, node: int) -> History:
    """What earlier attempts found, nothing if there were none. A file that cannot be read teaches nothing."""
    try:
        return _FILE.validate_json(_path(storage, node).read_bytes())
    except (OSError, ValidationError):
        return {}


class Keeper:
    """Writes now and then. A volume that hangs costs ten seconds of the parent, never a rank's."""

    def __init__(self, storage: Storage, node: int, known: History) -> None:
        self._storage, self._node, self._known = storage, node, dict(known)
        self._due = 0.0

    def keep_grown(self, history: History, now: float) -> None:
        """`now` is `time.monotonic()`."""
        self._due = self._due or now + KEEP_SECONDS
        grown = any(seconds > GROWN * self._known.get(phase, 0.0) for phase, seconds in history.items())
        if grown and now >= self._due:
            self._due, self._known = now + KEEP_SECONDS, dict(history)
            within(KEEP_SECONDS / 6, "How long phases took", lambda: self._write(history))

    def _write(self, history: History) -> None:
        """All attempts share the file. Raises `FencedError` if a newer one has taken the volume."""
        self._storage.check_newer()
        path = _path(self._storage, self._node)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, _FILE.dump_json(history).decode())


def _path(storage: Directory, node: int) -> Path:
    return storage.root / FOLDER / f"node-{node}.json"
