"""Checkpoints are read back while training goes on: slowly, and what is damaged is named and put aside."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch.distributed as dist

from rljob_trainer.checkpoint.directory import Directory, Storage, open_storage
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.scrub import PIECE, PassOver, Scrub, SlowReader
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import sha256_of, verify
from rljob_trainer.loop import Loop
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.train import leave
from trainer.checkpoints import VERSIONS, FileBackend, a_run, alone, layout, save
from trainer.ranks import run_ranks
from waiting import until

AT_ONCE = SlowReader(1.0)


def hear(told: list[str]) -> PassOver:
    return told.append


class Clock:
    """Every piece takes a second to read; it is asked before and after each."""

    def __init__(self) -> None:
        self.slept = self.worked = 0.0
        self._works = False

    def now(self) -> float:
        self.worked += self._works
        self._works = not self._works
        return self.worked + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize("share", [0.01, 0.25])
def test_reading_takes_its_share_of_the_time_only(tmp_path: Path, share: float) -> None:
    file, clock = tmp_path / "large", Clock()
    file.write_bytes(b"x" * (5 * PIECE + 7))
    assert SlowReader(share, clock.now, clock.sleep).sha256_of(file) == sha256_of(file)
    assert clock.worked == 7, "six pieces, and the end"
    assert clock.worked / (clock.worked + clock.slept) == pytest.approx(share)


def damage(checkpoint: Path) -> None:
    file = checkpoint / "state" / "rank_0.bin"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def test_what_is_damaged_is_named_and_put_aside_and_the_others_are_known_to_be_whole(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    for saved in save(run, 1, 2, 3):
        if saved.manifest.step == 2:
            damage(saved.path)
    told: list[str] = []
    scrub = Scrub(open_storage(run), hear(told), AT_ONCE)
    scrub.look()
    (aside,) = (tmp_path / "quarantine").iterdir()
    problem = "state/rank_0.bin does not match its checksum"
    assert told == [f"The checkpoint of step 2 is damaged: {problem}. It was moved to {aside}."]
    assert Directory(tmp_path).steps() == sorted(scrub.proved) == [1, 3]


def test_one_that_the_volume_refuses_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)
    for saved in save(run, 1, 2, 3):
        if saved.manifest.step > 1:
            damage(saved.path)
    move = Storage.quarantine_checkpoint

    def refused(storage: Storage, step: int) -> Path:
        if step == 3:
            raise OSError(errno.EIO, "no")
        return move(storage, step)

    monkeypatch.setattr(Storage, "quarantine_checkpoint", refused)
    told: list[str] = []
    scrub = Scrub(open_storage(run), hear(told), AT_ONCE)
    scrub.look()
    assert (Directory(tmp_path).steps(), sorted(scrub.proved), len(told)) == ([1, 3], [1], 1)
    monkeypatch.undo()
    scrub.look()
    assert (Directory(tmp_path).steps(), len(told)) == ([1], 2), "it was tried again"


def test_one_that_has_its_time_while_it_is_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)
    save(run, 1)
    storage = open_storage(run)

    class Slow(SlowReader):
        def sha256_of(self, path: Path) -> str:
            if storage.steps():
                storage.remove_checkpoint(1)
            return super().sha256_of(path)

    told: list[str] = []
    Scrub(storage, hear(told), Slow(1.0)).look()
    assert told == []


class Lossy(Storage):
    """A volume that flips a bit of each checkpoint but the first once it is there, until it is mended."""

    def publish(self, step: int) -> None:
        super().publish(step)
        if step > 1 and not (self.root / "mended").exists():
            damage(self.checkpoint(step))


def a_saver(root: Path, pass_over: PassOver | None, attempt: int = 1) -> Saver:
    """Of a job on such a volume, which keeps one checkpoint; after the first attempt it has resumed."""
    alone()
    run = a_run(root, attempt, checkpoint={"keepLatest": 1})
    open_storage(run)
    storage = Lossy.of(run)
    plan = plan_resume(storage, run, layout(), VERSIONS) if attempt > 1 else None
    return Saver(
        run,
        storage,
        FileBackend(),  # type: ignore[arg-type]  # saves only
        VERSIONS,
        None,
        pass_over=pass_over,
        verified=plan.verified(storage.checkpoints) if plan else None,
    )


def save_three(saver: Saver) -> None:
    for step in (1, 2, 3):
        saver.save(LoopState(step=step), rng=0)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save returns when what it wrote was read back."""
    monkeypatch.setattr(Scrub, "wake", Scrub.look)


@pytest.mark.usefixtures("at_once")
def test_while_newer_ones_turn_out_damaged_the_last_good_one_stays(tmp_path: Path) -> None:
    told: list[str] = []
    save_three(a_saver(tmp_path, hear(told)))
    assert [sentence.split(":")[0] for sentence in told] == [
        f"The checkpoint of step {step} is damaged" for step in (2, 3)
    ]
    run = a_run(tmp_path, 2)
    plan = plan_resume(open_storage(run), run, layout(), VERSIONS)
    assert (plan.step, plan.skipped) == (1, ())


def test_without_reading_back_the_last_good_one_is_removed(tmp_path: Path) -> None:
    """Negative control."""
    save_three(a_saver(tmp_path, None))
    assert Directory(tmp_path).steps() == [3]
    assert verify(Directory(tmp_path).checkpoint(3)) != []


@pytest.fixture
def at_the_tests_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read back unless the test says so."""
    monkeypatch.setattr(Scrub, "wake", lambda _: None)


@pytest.mark.usefixtures("at_the_tests_word")
def test_what_a_resume_has_verified_stays_until_a_newer_one_was_read_back(tmp_path: Path) -> None:
    """Also where the disk has spoiled those that were saved since, and nobody has seen it yet."""
    a_saver(tmp_path, hear([])).save(LoopState(step=1), rng=0)
    saver = a_saver(tmp_path, hear([]), attempt=2)
    for step in (2, 3):
        saver.save(LoopState(step=step), rng=0)
    assert Directory(tmp_path).steps() == [1, 3]
    run = a_run(tmp_path, 3)
    assert plan_resume(open_storage(run), run, layout(), VERSIONS).step == 1


@pytest.mark.usefixtures("at_the_tests_word")
def test_what_a_resume_has_verified_is_read_back_from_the_disk_all_the_same(tmp_path: Path) -> None:
    """What the resume has read may have been in memory."""
    a_saver(tmp_path, hear([])).save(LoopState(step=1), rng=0)
    told: list[str] = []
    saver = a_saver(tmp_path, hear(told), attempt=2)
    assert saver._scrub is not None
    assert sorted(saver.proved) == [1]
    damage(Directory(tmp_path).checkpoint(1))
    saver._scrub.look()
    assert len(told) == 1
    assert sorted(saver.doubted) == [1]


@pytest.mark.usefixtures("at_the_tests_word")
def test_a_checkpoint_of_another_job_protects_none_of_this_ones(tmp_path: Path) -> None:
    (theirs,) = save(a_run(tmp_path / "theirs", uid="uid-2"), 1)
    run = a_run(tmp_path / "ours", initialCheckpoint={"path": str(theirs.path)})
    storage = open_storage(run)
    plan = plan_resume(storage, run, layout(), VERSIONS)
    assert (plan.step, plan.verified(storage.checkpoints)) == (1, None)


class SavesMeanwhile(SlowReader):
    """While it reads the first file of one, three more are saved."""

    def __init__(self, saver: Saver) -> None:
        super().__init__(1.0)
        self._saver = saver
        self.seen: list[list[int]] = []

    def sha256_of(self, path: Path) -> str:
        if not self.seen:
            for step in (2, 3, 4):
                self._saver.save(LoopState(step=step), rng=0)
                self.seen.append(self._saver._storage.steps())
        return super().sha256_of(path)


@pytest.mark.usefixtures("at_the_tests_word")
def test_one_is_read_to_its_end_however_many_are_saved_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "mended").touch()
    saver = a_saver(tmp_path, hear([]))
    saver.save(LoopState(step=1), rng=0)
    assert saver._scrub is not None
    saver._scrub._reader = reader = SavesMeanwhile(saver)
    saver._scrub.look()
    assert reader.seen == [[1, 2], [1, 3], [1, 4]], "one more than keepLatest"
    assert 1 in saver.proved
    saver._scrub.look()
    saver.save(LoopState(step=5), rng=0)
    assert Directory(tmp_path).steps() == [4, 5], "then it has had its time"


def leave_after(root: Path, steps: int, reader: Callable[[Path], str] | None = None) -> tuple[str, list[int]]:
    """So many steps are saved and read back, by `reader` if given, on what is then a good volume; then the job is told
    to go. What it says, and which checkpoints rank 0 doubted before."""
    mock.patch.object(Scrub, "wake", Scrub.look).start()
    if reader:
        mock.patch.object(SlowReader, "sha256_of", lambda _, path: reader(path)).start()
    run = a_run(root, trainer={"numProcPerNode": dist.get_world_size()}, checkpoint={"keepLatest": 9})
    if dist.get_rank() == 0:
        open_storage(run)
    dist.barrier()
    board, backend = ProgressBoard(run), FileBackend()
    saver = Saver(run, Lossy.of(run), backend, VERSIONS, None, pass_over=board.pass_over)  # type: ignore[arg-type]  # saves only
    for step in range(1, steps + 1):
        board.saved(saver.save(LoopState(step=step), rng=0).facts)
    doubted = sorted(saver.doubted)
    mock.patch.stopall()
    (root / "mended").touch()
    nothing: Any = None  # leaving asks for none of it
    state = LoopState(step=steps)
    loop = Loop(run.spec, nothing, nothing, nothing, nothing, saver, board, None, state, 0)
    return leave(run, loop), doubted


@pytest.mark.parametrize("ranks", [1, 2])
def test_one_that_was_found_damaged_is_saved_again_when_the_job_is_told_to_go(
    tmp_path: Path, ranks: int
) -> None:
    """Only rank 0 knows of it."""
    said = run_ranks(ranks, leave_after, tmp_path, 2)
    assert said == [("told to go; step 2 is saved", [2]), ("told to go; step 2 is saved", [])][:ranks]
    assert verify(Directory(tmp_path).checkpoint(2)) == []
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def fail(path: Path) -> str:
    raise OSError(errno.EIO, "the disk is failing")


def test_one_that_could_not_be_read_back_makes_way_for_the_one_saved_on_leaving(tmp_path: Path) -> None:
    assert run_ranks(1, leave_after, tmp_path, 1, fail) == [("told to go; step 1 is saved", [1])]
    assert verify(Directory(tmp_path).checkpoint(1)) == []
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_one_that_is_whole_is_not_saved_again(tmp_path: Path) -> None:
    assert run_ranks(1, leave_after, tmp_path, 1) == [("told to go; step 1 is saved", [])]
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_while_a_checkpoint_is_saved_nothing_is_read(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    save(run, 1)
    scrub = Scrub(open_storage(run), hear([]), AT_ONCE)
    with scrub.paused():
        scrub.wake()
        assert not scrub.proved
    until(lambda: scrub.proved, "it goes on afterwards")


def facts(board: ProgressBoard) -> tuple[int, bool, bool]:
    newest = board.progress().checkpoint
    assert newest is not None
    return newest.step, newest.verified, newest.damaged


@pytest.mark.usefixtures("at_the_tests_word")
def test_the_status_calls_a_checkpoint_verified_once_it_was_read_back_and_not_before(tmp_path: Path) -> None:
    """And the second one, which the volume spoils, never."""
    alone()
    run = a_run(tmp_path)
    open_storage(run)
    board = ProgressBoard(run)
    saver = Saver(run, Lossy.of(run), FileBackend(), VERSIONS, None, pass_over=board.pass_over)  # type: ignore[arg-type]  # saves only
    board.reads_back(saver)
    assert saver._scrub is not None
    for step, verified, damaged in ((1, True, False), (2, False, True)):
        board.saved(saver.save(LoopState(step=step), rng=0).facts)
        assert facts(board) == (step, False, False)
        saver._scrub.look()
        assert facts(board) == (step, verified, damaged)


def test_one_that_a_resume_goes_on_from_was_read_back_before(tmp_path: Path) -> None:
    save(a_run(tmp_path), 1)
    run = a_run(tmp_path, 2)
    board = ProgressBoard(run)
    board.resume(plan_resume(open_storage(run), run, layout(), VERSIONS))
    assert facts(board) == (1, True, False)


def test_it_reads_in_the_background_from_the_start_and_after_each_save(tmp_path: Path) -> None:
    save(a_run(tmp_path), 1)
    damage(Directory(tmp_path).checkpoint(1))
    told: list[str] = []
    saver = a_saver(tmp_path, hear(told))
    until(lambda: told, "what was there before is read")
    saver.save(LoopState(step=2), rng=0)
    until(lambda: len(told) == 2, "and what is new")
    assert Directory(tmp_path).steps() == []
