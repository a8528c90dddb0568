"""The stream of buckets and the group it travels through, without vLLM."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from rljob_api.weights import Transport
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.weights.carriers import chosen_transport
from rljob_trainer.weights.disk import read_parts, write_parts
from rljob_trainer.weights.group import Group, join, open_store
from rljob_trainer.weights.packing import ALIGNMENT, decode, encode, groups, offsets, pack
from trainer.checkpoints import a_run

CPU = torch.device("cpu")


def some_weights() -> list[tuple[str, Tensor]]:
    torch.manual_seed(0)
    return [
        ("embed", torch.randn(7, 3)),
        ("scale", torch.tensor(2.5, dtype=torch.bfloat16)),
        ("head", torch.randn(3, 5).to(torch.bfloat16).T),
        ("large", torch.randn(100, 10)),
    ]


def test_a_bucket_gives_back_what_was_packed() -> None:
    bucket = pack(some_weights(), CPU)
    assert all(start % ALIGNMENT == 0 for start in offsets(bucket.headers))
    assert decode(encode(bucket.headers)) == bucket.headers
    for (name, tensor), (packed_name, packed) in zip(some_weights(), bucket.tensors(), strict=True):
        assert packed_name == name
        assert packed.dtype == tensor.dtype
        assert torch.equal(packed, tensor)


def test_tensors_travel_together_up_to_the_limit_and_a_larger_one_alone() -> None:
    assert [[name for name, _ in group] for group in groups(some_weights(), limit=100)] == [
        ["embed", "scale"],
        ["head"],
        ["large"],
    ]
    assert list(groups([])) == []


@pytest.fixture
def pair() -> Iterator[tuple[Group, Group]]:
    """Both ends of a gloo group of two, in two threads."""
    store = open_store("127.0.0.1")
    other = TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False)
    timeout = timedelta(seconds=200)
    with ThreadPoolExecutor() as pool:
        receiver = pool.submit(join, other, 1, 2, wire="gloo", device=CPU, timeout=timeout)
        sender = join(store, 0, 2, wire="gloo", device=CPU, timeout=timeout)
        yield sender, receiver.result()


def test_the_meeting_point_is_at_rank_0s_own_address_alone() -> None:
    store = open_store("127.0.0.1")
    socket.create_connection(("127.0.0.1", store.port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.port))


@pytest.mark.parametrize("limit", [1, 100, 1 << 20])
def test_what_is_sent_arrives_bit_for_bit(pair: tuple[Group, Group], limit: int) -> None:
    sender, receiver = pair
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(sender.send, some_weights(), limit)
        arrived = [(name, tensor) for bucket in receiver.receive() for name, tensor in bucket.tensors()]
        sending.result()
    assert [name for name, _ in arrived] == ["embed", "scale", "head", "large"]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(arrived, some_weights(), strict=True))


def test_files_on_the_volume_hold_the_newest_weights_only(tmp_path: Path) -> None:
    storage = open_storage(a_run(tmp_path))
    write_parts(storage, "1.1", some_weights())
    written = write_parts(storage, "1.2", some_weights(), limit=100)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["1.2"]
    parts = read_parts(tmp_path / written["directory"], written["parts"], CPU)
    read = [(name, tensor) for part in parts for name, tensor in part]
    assert {name for name, _ in read} == {"embed", "scale", "head", "large"}
    assert all(torch.equal(tensor, dict(some_weights())[name]) for name, tensor in read)


def test_a_part_that_is_not_there_is_not_passed_over(tmp_path: Path) -> None:
    written = write_parts(open_storage(a_run(tmp_path)), "1.1", some_weights())
    with pytest.raises(FileNotFoundError):
        list(read_parts(tmp_path / written["directory"], written["parts"] + 1, CPU))


def test_an_old_attempt_does_not_touch_the_files_of_a_newer_one(tmp_path: Path) -> None:
    old, new = open_storage(a_run(tmp_path, 1)), open_storage(a_run(tmp_path, 2))
    write_parts(new, "2.1", some_weights())
    with pytest.raises(FencedError):
        write_parts(old, "1.2", some_weights())
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["2.1"]


def test_not_even_one_that_passed_the_check_before_does(tmp_path: Path) -> None:
    old = open_storage(a_run(tmp_path, 1))
    (tmp_path / "weights" / "2.1").mkdir(parents=True)
    write_parts(old, "1.2", some_weights())
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == ["1.2", "2.1"]


def test_a_full_volume_is_told_in_a_sentence(tmp_path: Path) -> None:
    storage = open_storage(a_run(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StorageError, match=r"weights for the rollout servers failed: .* is full"):
            write_parts(storage, "1.1", some_weights())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_auto_is_nccl_on_gpus_and_gloo_on_cpu() -> None:
    assert chosen_transport(Transport.AUTO, on_gpu=True) is Transport.NCCL
    assert chosen_transport(Transport.AUTO, on_gpu=False) is Transport.GLOO
    assert chosen_transport(Transport.DISK, on_gpu=True) is Transport.DISK
