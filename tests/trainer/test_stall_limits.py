"""When silence counts as a hang: what the spec says, what is learnt, and whose silence it is. Time is a number here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from rljob_api.progress import TrainPhase
from rljob_api.stall import PhaseTimeouts
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.stall import evidence, history
from rljob_trainer.stall.late import all_wait, late, where
from rljob_trainer.stall.limits import FIRST_SECONDS, LEAST_SECONDS, Limits
from rljob_trainer.stall.pulse import Beat, Pulse, pulses
from rljob_trainer.stall.stacks import Stack
from rljob_trainer.stall.watch import MEGABYTE, Watch
from trainer.checkpoints import a_run

COLLECTIVE = (
    '  File "/x/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 9 in all_reduce'
)
MEGATRON = '  File "/x/lib/python3.11/site-packages/megatron/core'
STAGE_WAITS = f'{MEGATRON}/pipeline_parallel/p2p_communication.py", line 238 in _communicate_shapes'
SCHEDULE = f'{MEGATRON}/pipeline_parallel/schedules.py", line 1425 in pp_pre_forward'
BUCKET_WAITS = f'{MEGATRON}/distributed/param_and_grad_buffer.py", line 536 in finish_grad_sync'
MATRIX = f'{MEGATRON}/tensor_parallel/layers.py", line 40 in forward'
SHARD = '  File "/x/lib/python3.11/site-packages/torch/distributed/checkpoint/filesystem.py", line 8 in write'
RESULT = '  File "/x/lib/python3.11/concurrent/futures/_base.py", line 8 in result'
WORKER = '  File "/x/lib/python3.11/concurrent/futures/thread.py", line 8 in run'
IDLE = '  File "/x/lib/python3.11/concurrent/futures/thread.py", line 81 in _worker'
OURS = '  File "/app/rljob_trainer/futures.py", line 23 in _resolve'
LOOP = '  File "/app/rljob_trainer/loop.py", line 60 in step'
REWARD = '  File "/app/mine/rewards.py", line 5 in score'


def learnt() -> Limits:
    return Limits(PhaseTimeouts())


class Gang:
    """Ranks whose signs of life are made by the test."""

    def __init__(self, limits: Limits, ranks: int = 2) -> None:
        self.pulses: list[Pulse] = pulses(ranks)
        self.moved = 0
        self.watch = Watch(limits, dict(enumerate(self.pulses)), lambda rank: self.moved)

    def beat(self, rank: int, phase: TrainPhase | None, at: float) -> None:
        self.pulses[rank].beat(phase, 3, "", at)

    def hangs(self, now: float) -> bool:
        return self.watch.look(now) is not None


def test_a_limit_that_is_said_holds_and_the_others_are_learnt() -> None:
    limits = Limits(PhaseTimeouts(reward=20))
    assert limits.of(TrainPhase.REWARD) == 20
    assert limits.of(TrainPhase.TRAIN) == FIRST_SECONDS
    limits.note(TrainPhase.TRAIN, 2)
    assert limits.of(TrainPhase.TRAIN) == LEAST_SECONDS, "a tiny job is not judged by its milliseconds"
    limits.note(TrainPhase.TRAIN, 60)
    limits.note(TrainPhase.TRAIN, 1)
    assert limits.of(TrainPhase.TRAIN) == 600, "ten times the slowest so far"


def test_servers_that_hang_are_found_before_the_gang_answers_for_them() -> None:
    limits = Limits(PhaseTimeouts(generate=20), sync_seconds=700)
    limits.note(TrainPhase.SYNC, 1)
    assert (limits.of(TrainPhase.GENERATE), limits.of_gang(TrainPhase.GENERATE)) == (20, 60)
    assert limits.of_gang(TrainPhase.SYNC) == 1400


def test_a_first_step_that_is_much_slower_than_later_ones_is_no_hang() -> None:
    gang, now = Gang(learnt()), 100.0
    for seconds in (1500.0, *[1.0] * 50, 1400.0):
        gang.beat(0, TrainPhase.TRAIN, now)
        assert not gang.hangs(now)
        now += seconds
        assert not gang.hangs(now)


def test_silence_that_is_out_of_all_proportion_is_a_hang() -> None:
    gang = Gang(learnt())
    for second in range(50):
        gang.beat(0, TrainPhase.TRAIN, 100.0 + 40 * second)
        gang.hangs(100.0 + 40 * second)
    last = 100.0 + 40 * 49
    assert not gang.hangs(last + 399)
    assert gang.hangs(last + 401)


def test_as_long_as_one_rank_gets_on_the_others_may_wait_for_it() -> None:
    gang = Gang(Limits(PhaseTimeouts(train=10)))
    gang.beat(1, TrainPhase.TRAIN, 1.0)
    for second in range(1, 60):
        gang.beat(0, TrainPhase.TRAIN, float(second))
        assert not gang.hangs(float(second))
    assert gang.hangs(70.0)


def test_a_rank_that_waits_for_another_node_is_not_asked_for_signs_of_life() -> None:
    gang = Gang(Limits(PhaseTimeouts(train=10)))
    for rank in (0, 1):
        gang.beat(rank, None, 1.0)
    assert not gang.hangs(10_000.0)


def test_a_large_file_may_take_as_long_as_bytes_move() -> None:
    gang = Gang(Limits(PhaseTimeouts(save=10, train=10)))
    gang.beat(0, TrainPhase.SAVE, 1.0)
    for second in range(1, 60):
        gang.moved += MEGABYTE
        assert not gang.hangs(float(second))
    assert gang.hangs(70.0)
    gang.beat(0, TrainPhase.TRAIN, 70.0)
    gang.moved += MEGABYTE
    assert gang.hangs(81.0), "elsewhere bytes prove nothing"


def test_a_rank_that_has_ended_is_asked_nothing_while_another_still_saves() -> None:
    """Its process is gone: to ask what it has read and written would end the parent."""
    gang = Gang(learnt())
    for rank in (0, 1):
        gang.beat(rank, TrainPhase.SAVE, 100)
    assert not gang.hangs(100)
    gang.watch.pulses = {0: gang.pulses[0]}
    gang.watch.bytes_moved = {0: 5 * MEGABYTE}.__getitem__
    assert not gang.hangs(101)


def a_beat(count: int = 5, phase: TrainPhase | None = TrainPhase.TRAIN) -> Beat:
    return Beat(at=1.0, count=count, step=3, phase=phase, detail="")


def a_stack(*frames: str, state: str = "S", others: Sequence[Sequence[str]] = ([IDLE],)) -> Stack:
    """`frames` are those of the main thread, which is written last."""
    lines = [line for other in others for line in ("Thread 0x0001 (most recent call first):", *other)]
    text = "\n".join([*lines, "Current thread 0x0002 (most recent call first):", *frames, ""])
    return Stack(text if frames else "", state)


WAITS = a_stack(COLLECTIVE, LOOP)
ALL_WAIT = [
    WAITS,
    a_stack(STAGE_WAITS, SCHEDULE, LOOP),
    a_stack(SCHEDULE, LOOP),
    a_stack(BUCKET_WAITS, LOOP),
    a_stack(RESULT, LOOP, others=[[IDLE], [COLLECTIVE, SHARD, WORKER], [RESULT, OURS]]),
]
"""In collectives, for a neighbouring stage, for what was begun before, or for a thread that is in a collective."""


@pytest.mark.parametrize(
    ("stack", "because"),
    [
        (a_stack(COLLECTIVE, LOOP, state="T"), "it is stopped"),
        (a_stack(state="D"), "it did not answer and is stuck in the kernel"),
        (a_stack(REWARD, LOOP), "it is in no collective"),
        (a_stack(SHARD, LOOP), "it writes a checkpoint"),
        (a_stack(MATRIX, SCHEDULE, LOOP), "it computes, as Megatron told it"),
        (a_stack(RESULT, LOOP, others=[[SHARD, WORKER], [RESULT, OURS]]), "its thread writes a checkpoint"),
    ],
)
def test_the_late_rank_is_the_one_that_is_not_waiting(stack: Stack, because: str) -> None:
    for waits in ALL_WAIT:
        assert late({0: a_beat(), 1: a_beat()}, {0: waits, 1: stack}) == 1, because


def test_of_ranks_that_all_wait_the_late_one_has_got_on_least() -> None:
    beats = {0: a_beat(5), 1: a_beat(4), 2: a_beat(1, phase=None)}
    stacks = dict.fromkeys(beats, WAITS)
    assert late(beats, stacks) == 1, "rank 2 waits for what rank 0 does alone"
    assert all_wait(beats, stacks)
    assert all_wait({}, dict(enumerate(ALL_WAIT)))
    assert not all_wait(beats, stacks | {1: a_stack(REWARD)})


def test_the_place_is_the_innermost_frame_and_the_nearest_outside_of_libraries() -> None:
    assert (
        where(WAITS)
        == "all_reduce (distributed/distributed_c10d.py:9), called from step (rljob_trainer/loop.py:60)"
    )
    assert where(a_stack(REWARD, LOOP)) == "score (mine/rewards.py:5)"
    assert where(a_stack(RESULT, LOOP, others=[[REWARD, WORKER]])) == "score (mine/rewards.py:5)"
    assert where(a_stack()) == ""


def storage_of(folder: Path, attempt: int = 1) -> Storage:
    """The volume, as that attempt knows it before it has taken it."""
    return Storage.of(a_run(folder, attempt))


def learn(storage: Storage, seconds: float) -> None:
    keeper = history.Keeper(storage, 0, {})
    for now in (1.0, 1.0 + history.KEEP_SECONDS):
        keeper.keep_grown({TrainPhase.TRAIN: seconds}, now)


def test_the_next_attempt_knows_what_this_one_learnt(tmp_path: Path) -> None:
    first, second = storage_of(tmp_path), storage_of(tmp_path, 2)
    learn(first, 40.0)
    assert history.read(second, 0) == {TrainPhase.TRAIN: 40.0}
    assert history.read(second, 1) == {}


def test_an_attempt_that_comes_back_late_teaches_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_storage(a_run(tmp_path, 2))
    learn(storage_of(tmp_path, 3), 40.0)
    learn(storage_of(tmp_path, 1), 400.0)
    assert history.read(storage_of(tmp_path, 3), 0) == {TrainPhase.TRAIN: 40.0}
    told = "How long phases took could not be kept on the volume: attempt 1 may not write"
    assert told in capfd.readouterr().err


def test_five_folders_of_a_node_stay_and_a_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_FILE_BYTES", 10)
    for attempt in range(1, 8):
        evidence.write(tmp_path / "pod", {0: a_stack(REWARD)}, "a long story")
        assert evidence.keep(tmp_path / "pod", storage_of(tmp_path, attempt), node=0)
        os.utime(tmp_path / f"stalls/attempt-{attempt}-node-0", (attempt, attempt))
    evidence.keep(tmp_path / "pod", storage_of(tmp_path, 8), node=1)
    kept = sorted(path.name for path in (tmp_path / "stalls").iterdir())
    assert kept == [*(f"attempt-{attempt}-node-0" for attempt in range(3, 8)), "attempt-8-node-1"]
    assert (tmp_path / "stalls/attempt-7-node-0/story.txt").read_text() == "a long sto"
    open_storage(a_run(tmp_path, 7))
    assert evidence.keep(tmp_path / "pod", storage_of(tmp_path, 2), node=0) == "", "it is late"
    assert kept == sorted(path.name for path in (tmp_path / "stalls").iterdir())


def test_a_volume_that_takes_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evidence, "STORAGE_SECONDS", 0.5)
    evidence.write(tmp_path / "pod", {}, "a story")
    target = tmp_path / "stalls" / "attempt-1-node-0"
    target.mkdir(parents=True)
    os.mkfifo(target / "story.txt")
    assert evidence.keep(tmp_path / "pod", storage_of(tmp_path), node=0) == ""
    told = "What tells of the hang could not be kept: the volume did not answer in 0.5 s"
    assert told in capfd.readouterr().err


def test_a_bug_that_keeps_something_from_the_volume_is_told_with_its_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    empty: dict[str, None] = {}
    assert not evidence.within(60, "Something", lambda: empty["no such key"])
    assert "test_stall_limits.py" in (told := capfd.readouterr().err)
    assert "KeyError: 'no such key'" in told


def test_a_reader_never_sees_half_a_beat() -> None:
    (pulse,) = pulses(1)
    pulse.beat(TrainPhase.SAVE, 7, "a file of a name that is longer than a slot has room for" * 9, 12.5)
    beat = pulse.read()
    assert beat is not None
    assert (beat.at, beat.count, beat.step, beat.phase) == (12.5, 1, 7, TrainPhase.SAVE)
    assert len(beat.detail) == 200
    memory, offset = pulse._memory, pulse._offset
    memory[offset : offset + 1] = b"\x03"
    assert pulse.read() is None, "it is being written"
