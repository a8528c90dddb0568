"""Weights as a stream of buckets: a header that names the tensors, and their bytes end to end.

Pure. The stream describes itself, so a sender needs one pass over an iterator of unknown length, and a receiver needs
no list of names beforehand. Used by trainer rank 0 and inside vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

BUCKET_BYTES = 16 << 20
"""Tensors are sent together up to this many bytes; a larger tensor travels alone."""

ALIGNMENT = 64
"""Tensors start at multiples of this, so that a bucket can be viewed as any dtype."""

NamedTensors = Iterable[tuple[str, Tensor]]


@dataclass(frozen=True)
class TensorHeader:
    """Name, dtype and shape of one tensor of a bucket."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> TensorHeader:
        return cls(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.torch_dtype.itemsize

    @property
    def padded_bytes(self) -> int:
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Bucket:
    """Some tensors in one buffer."""

    headers: tuple[TensorHeader, ...]
    buffer: Tensor
    """uint8 [bytes]."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Views into the buffer; they keep it alive."""
        for header, start in zip(self.headers, offsets(self.headers), strict=True):
            flat = self.buffer[start : start + header.bytes].view(header.torch_dtype)
            yield header.name, flat.view(header.shape)


def offsets(headers: Iterable[TensorHeader]) -> list[int]:
    """Where each tensor starts in its bucket, in bytes."""
    ends = list(accumulate(header.padded_bytes for header in headers))
    return [0, *ends[:-1]]


def encode(headers: Iterable[TensorHeader]) -> bytes:
    return json.dumps([[header.name, header.dtype, header.shape] for header in headers]).encode()


def decode(data: bytes) -> tuple[TensorHeader, ...]:
    return tuple(TensorHeader(name, dtype, tuple(shape)) for name, dtype, shape in json.loads(data))


def groups(weights: NamedTensors, limit: int = BUCKET_BYTES) -> Iterator[list[tuple[str, Tensor]]]:
    """Cut a stream of tensors into runs of at most `limit` bytes."""
    group: list[tuple[str, Tensor]] = []
    size = 0
    for name, tensor in weights:
        if group and size + tensor.nbytes > limit:
            yield group
            group, size = [], 0
        group.append((name, tensor))
        size += tensor.nbytes
    if group:
        yield group


def pack(group: list[tuple[str, Tensor]], device: torch.device) -> Bucket:
    """Copy some tensors into one buffer on `device`."""
    headers = tuple(TensorHeader.of(name, tensor) for name, tensor in group)
    buffer = torch.empty(sum(header.padded_bytes for header in headers), dtype=torch.uint8, device=device)
    bucket = Bucket(headers, buffer)
    for (_, view), (_, tensor) in zip(bucket.tensors(), group, strict=True):
        view.copy_(tensor.detach())
    return bucket
