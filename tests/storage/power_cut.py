"""What a disk may hold after the power went: worked out from the record of what was done to it.

The model is the least that POSIX promises. A file's content is on the disk once the file was synced, an entry of a
folder once that folder was. Of all that was done since, any part may have arrived and any part not, in any order; a
write may have arrived in part, or as zeros. A rename arrives whole or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import assert_never

from storage.effects import Deed, Effect

Number = int
"""Of a file or folder, which keeps it under all its names."""
ROOT: Number = 0
NEVER = 1 << 60


@dataclass(frozen=True)
class Place:
    """An entry of a folder."""

    folder: Number
    name: str


@dataclass(frozen=True)
class Entry:
    """A new name for something, or none any more; of a rename, with the name that it had."""

    at: Place
    of: Number | None
    was: Place | None = None


@dataclass(frozen=True)
class Content:
    """Bytes of a file from `offset` on; with `data` None its new size."""

    file: Number
    offset: int
    data: bytes | None


Update = Entry | Content


@dataclass
class Step:
    """An update, and when it was begun and was certain to be on the disk, both as positions in the record."""

    update: Update
    begun: int
    certain: int = NEVER


@dataclass
class History:
    """All updates of a record, in order."""

    steps: list[Step] = field(default_factory=list)
    folders: set[Number] = field(default_factory=lambda: {ROOT})
    _names: dict[Place, Number] = field(default_factory=dict)

    @classmethod
    def of(cls, effects: Iterable[Effect]) -> History:
        history = cls()
        for at, effect in enumerate(effects):
            history._note(at, effect)
        return history

    def _note(self, at: int, effect: Effect) -> None:
        match effect.deed:
            case Deed.MKDIR | Deed.CREATE:
                self._make(at, effect)
            case Deed.RMDIR | Deed.UNLINK:
                place = self._place(effect.path)
                del self._names[place]
                self._add(at, Entry(place, None))
            case Deed.RENAME:
                old, new = self._place(effect.path), self._place(effect.to)
                self._names[new] = self._names.pop(old)
                self._add(at, Entry(new, self._names[new], old))
            case Deed.WRITE:
                self._add(at, Content(self._number(effect.path), effect.offset, effect.data))
            case Deed.TRUNCATE:
                self._add(at, Content(self._number(effect.path), effect.offset, None))
            case Deed.SYNC_FILE | Deed.SYNC_FOLDER:
                self._sync(at, self._number(effect.path))
            case Deed.OPEN | Deed.READ | Deed.LIST:
                pass
            case _:
                assert_never(effect.deed)

    def _make(self, at: int, effect: Effect) -> None:
        number = len(self.steps) + 1
        place = self._place(effect.path)
        self._names[place] = number
        if effect.deed is Deed.MKDIR:
            self.folders.add(number)
        self._add(at, Entry(place, number))

    def _add(self, at: int, update: Update) -> None:
        self.steps.append(Step(update, at))

    def _sync(self, at: int, number: Number) -> None:
        for step in self.steps:
            if step.certain == NEVER and number in _places(step.update):
                step.certain = at

    def _place(self, path: str) -> Place:
        pure = PurePosixPath(path)
        return Place(self._number(str(pure.parent)), pure.name)

    def _number(self, path: str) -> Number:
        number = ROOT
        for name in PurePosixPath(path).parts[1:]:
            number = self._names[Place(number, name)]
        return number


def _places(update: Update) -> set[Number]:
    """What has to be synced for it: any one of these."""
    if isinstance(update, Content):
        return {update.file}
    return {update.at.folder} | ({update.was.folder} if update.was else set())


class Disk:
    """Names and contents."""

    def __init__(self) -> None:
        self._entries: dict[Place, Number] = {}
        self._contents: dict[Number, bytearray] = {}

    def apply(self, update: Update) -> None:
        if isinstance(update, Content):
            self._write(update)
            return
        if update.was and self._entries.get(update.was) == update.of:
            del self._entries[update.was]
        if update.of is None:
            self._entries.pop(update.at, None)
        else:
            self._entries[update.at] = update.of

    def _write(self, update: Content) -> None:
        content = self._contents.setdefault(update.file, bytearray())
        if update.data is None:
            del content[update.offset :]
        end = update.offset + len(update.data or b"")
        content.extend(bytes(max(end - len(content), 0)))
        content[update.offset : end] = update.data or b""

    def put(self, target: Path, folders: set[Number], folder: Number = ROOT) -> None:
        """Write all that can be reached into the empty folder `target`."""
        for place, number in self._entries.items():
            if place.folder != folder:
                continue
            path = target / place.name
            if number in folders:
                path.mkdir()
                self.put(path, folders, number)
            else:
                path.write_bytes(self._contents.get(number, b""))


def after_power_cut(effects: Sequence[Effect], at: int, dice: random.Random | None, target: Path) -> None:
    """Fill `target` with what a disk may hold when the power goes before effect `at`.

    `dice` decide over all that was not yet certain; without any, nothing of it has arrived.
    """
    history, disk = History.of(effects[:at]), Disk()
    for step in history.steps:
        update = step.update if step.certain < at else _arrived(step.update, dice)
        if update is not None:
            disk.apply(update)
    disk.put(target, history.folders)


def _arrived(update: Update, dice: random.Random | None) -> Update | None:
    """What became of an update that nobody had waited for."""
    if dice is None or dice.random() < 0.5:
        return None
    if isinstance(update, Content) and update.data and dice.random() < 0.5:
        return Content(update.file, update.offset, _torn(update.data, dice))
    return update


def _torn(data: bytes, dice: random.Random) -> bytes:
    """Some of it, then nothing or zeros."""
    cut = dice.randrange(len(data))
    return data[:cut] + bytes(len(data) - cut) * dice.randrange(2)
