"""When what somebody began to convert counts as dead: what a lock can say of it, and what time says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rljob_trainer.convert import drafts
from rljob_trainer.convert.drafts import ABANDONED_SECONDS, is_dead, lock_of, new_draft, time_at
from rljob_trainer.locks import Hold


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Begun on this machine; one file in it."""
    made = new_draft(tmp_path, "local-1")
    made.mkdir()
    (made / "weights").touch()
    return made


def age(draft: Path, seconds: float, now: float) -> None:
    for path in (draft / "weights", draft):
        os.utime(path, (now - seconds, now - seconds))


def test_its_lock_is_that_of_the_entry(draft: Path) -> None:
    assert lock_of(draft) == draft.parent / ".local-1.lock"


def test_a_free_lock_is_believed_for_what_this_machine_began(draft: Path) -> None:
    now = time_at(draft)
    assert is_dead(draft, Hold.OURS, now)
    assert not is_dead(draft, Hold.NONE, now)


@pytest.mark.parametrize("elsewhere", ["another machine", "hidden"])
def test_for_what_another_machine_began_only_time_tells(
    draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    boot = tmp_path / "boot_id"
    if elsewhere == "another machine":
        boot.write_text("12345678-9abc")
    monkeypatch.setattr(drafts, "BOOT_ID", boot)
    now = time_at(tmp_path)
    for hold in (Hold.OURS, Hold.NONE):
        age(draft, ABANDONED_SECONDS - 1, now)
        assert not is_dead(draft, hold, now)
        age(draft, ABANDONED_SECONDS + 1, now)
        assert is_dead(draft, hold, now)


def test_one_file_that_grows_keeps_all_alive(draft: Path) -> None:
    now = time_at(draft)
    age(draft, 2 * ABANDONED_SECONDS, now)
    os.utime(draft / "weights", (now, now))
    assert not is_dead(draft, Hold.NONE, now)


def test_what_is_locked_is_never_dead_nor_what_vanishes_meanwhile(draft: Path) -> None:
    now = time_at(draft)
    age(draft, 2 * ABANDONED_SECONDS, now)
    assert not is_dead(draft, Hold.TAKEN, now)
    assert not is_dead(draft.with_name(".gone.x.tmp"), Hold.NONE, now)
