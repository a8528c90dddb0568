"""Weights & Biases for real, without its server: what lands on the volume, read back from wandb's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rljob_trainer.metrics import MetricsLog
from trainer.checkpoints import a_run
from waiting import until


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def train(volume: Path, attempt: int, first: int, last: int) -> None:
    logging = {"tensorboard": False, "wandb": {"project": "sums"}}
    log = MetricsLog(a_run(volume, attempt, logging=logging), volume, first)
    for step in range(first + 1, last + 1):
        log.write(step, {"reward": step / 10, "kl": float("nan")})
    log.close()


def records(file: Path) -> Iterator[bytes]:
    """Of a run of less than 32 KiB: a head of 7 bytes, then each with a checksum, its length and a type. The last one
    may be half written."""
    content, place = file.read_bytes(), 7
    while place + 7 <= len(content):
        begin = place + 7
        place = begin + int.from_bytes(content[place + 4 : place + 6], "little")
        if place <= len(content):
            yield content[begin:place]


def history(file: Path) -> dict[int, dict[str, float]]:
    """Step → what was logged in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for record in map(Record.FromString, records(file)):
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        if items:
            found[int(items["_step"])] = {key: value for key, value in items.items() if key[0] != "_"}
    return found


def test_without_a_key_every_attempt_leaves_its_part_of_one_run_on_the_volume(tmp_path: Path) -> None:
    train(tmp_path, 1, 0, 2)
    train(tmp_path, 2, 1, 3)
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))  # by the times at which they began
    assert [file.name for file in files] == ["run-uid-1.wandb"] * 2, "the same run, named by the job's UID"
    expected = [  # a number that is none is left out
        {1: {"reward": 0.1}, 2: {"reward": 0.2}},
        {2: {"reward": 0.2}, 3: {"reward": 0.3}},
    ]
    # wandb's own process writes the end later
    until(lambda: [history(file) for file in files] == expected, "both parts are written")


def test_wandb_s_own_mode_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tmp_path, 1, 0, 1)
    assert list(tmp_path.glob("wandb/offline-run-*"))
