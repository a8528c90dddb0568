"""How far training had come: what each attempt notes of its steps, and what the next one knows by that.

The furthest step that was ever finished stays known until a later attempt has passed it, however many die on the way
there; and so does what it depended on. `plan_resume` reads both and begins the attempt's own note, rank 0's `Leader`
tells it of each step. A note is on the disk before the next step begins: else a power cut would leave an older one, by
which fewer steps were lost than were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rljob_api.job import JobSpec
from rljob_api.manifest import Layout, Versions

from .basis import Basis, read_basis, write_basis
from .directory import Storage
from .durable import sync_file, write_durably
from .fence import NOTHING_YET, fences

UNKNOWN = "?"
_NOTE = re.compile(r"(\d+)(?: (\d+|\?))?\n")


@dataclass(frozen=True)
class Note:
    """What an attempt left in its file of `attempts/`: `385 399`."""

    step: int
    """The last that it finished, or where it went on from."""
    furthest: int | None
    """Finished by any attempt up to then; None if that is not known (`?`)."""

    @property
    def text(self) -> str:
        return f"{self.step} {UNKNOWN if self.furthest is None else self.furthest}\n"


@dataclass(frozen=True)
class Past:
    """How far the attempts before came."""

    furthest: int | None
    """The furthest step that was ever finished; None if the note of it is torn, or could not be written."""
    first: bool = False
    """None has begun to train before."""
    basis: Basis | None = None
    """What that step depended on; None if it is not known."""

    def lost(self, step: int) -> int | None:
        """Steps finished before that are done again from `step` on; None if that is not known."""
        return None if self.furthest is None else max(self.furthest - step, 0)

    def doubts(self, step: int, spec: JobSpec, layout: Layout, versions: Versions) -> list[str]:
        """Why the steps that are done again from `step` on do not come out as they were, as parts of a sentence."""
        if self.lost(step) == 0:
            return []
        if self.basis is None:
            return ["it is not known what the steps before depended on"]
        return self.basis.doubts(spec, layout, versions)


FIRST = Past(0, first=True)


def read_past(storage: Storage) -> Past:
    """What the newest of the attempts before noted that began to train."""
    for fence in reversed(fences(storage.attempts)):
        path = storage.attempts / fence.file
        if fence < storage.mine and path.read_text() != NOTHING_YET:
            note = read_note(path)
            return Past(note.furthest if note else None, basis=read_basis(storage.root))
    return FIRST


def read_note(path: Path) -> Note | None:
    """None if the attempt has not begun to train, or its note is torn: the volume refused it, or the power went while
    it was written over."""
    found = _NOTE.fullmatch(path.read_text())
    if found is None:
        return None
    furthest = found[2] or found[1]  # an older RLJob wrote one number
    return Note(int(found[1]), None if furthest == UNKNOWN else int(furthest))


@dataclass
class StepNotes:
    """An attempt's own."""

    storage: Storage
    basis: Basis
    """What its steps depend on."""
    furthest: int | None
    """As `Past`."""
    _written: Basis | None = None

    def begin(self, step: int) -> None:
        """The attempt goes on from `step`, and has finished none yet."""
        self._note(step)

    def finished(self, step: int) -> None:
        """Note it. What the furthest step depends on is written before the first that this attempt passes it by, and
        whenever it changes, so a resume cannot call steps exact that others had done otherwise."""
        if self.furthest is None or step > self.furthest:
            if self._written is not self.basis:
                write_basis(self.storage.root, self.basis)
                self._written = self.basis
            self.furthest = step
        self._note(step)

    def _note(self, step: int) -> None:
        """Put it on the disk, which takes milliseconds. Where there is no room for a second file the first is written
        over; if that fails too it is empty, and not an older note that would be believed.
        """
        path = self.storage.attempts / self.storage.mine.file
        text = Note(step, self.furthest).text
        try:
            write_durably(path, text)
        except OSError:
            path.write_text(text)
            sync_file(path)
