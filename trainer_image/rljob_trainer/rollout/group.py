"""A finished group, and its bytes in a file. Pure; `kept.py` has the files.

A file is a row of records, each its length, its sha256 and its body. So a record that was torn by a crash, or damaged
on disk, is noticed, and what stands before it counts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rljob_trainer.batch import Prompt, Sample

HEAD = struct.Struct("<Q32s")
"""Bytes of the body, and its sha256."""


@dataclass(frozen=True)
class Group:
    """All completions of one prompt."""

    key: str
    """`Question.key`: what they depend on, beside the weights."""
    samples: list[Sample]
    seconds: float
    """What drawing them took of the step's time."""


def record(body: bytes) -> bytes:
    """`body` as it stands in a file."""
    return HEAD.pack(len(body), hashlib.sha256(body).digest()) + body


def bodies(data: bytes) -> Iterator[bytes | None]:
    """The bodies in `data`; at the first record that is not whole None, and then no more."""
    at = 0
    while at < len(data):
        body = _body(data, at)
        yield body
        if body is None:
            return
        at += HEAD.size + len(body)


def _body(data: bytes, at: int) -> bytes | None:
    if at + HEAD.size > len(data):
        return None
    length, digest = HEAD.unpack_from(data, at)
    body = data[at + HEAD.size : at + HEAD.size + length]
    return body if len(body) == length and hashlib.sha256(body).digest() == digest else None


def encoded(group: Group) -> bytes:
    """A line of JSON, then the tokens as int32 and their log-probabilities as float64, so that none is rounded."""
    samples = group.samples
    told = {
        "key": group.key,
        "seconds": group.seconds,
        "samples": [(s.text, s.finish_reason, len(s.token_ids)) for s in samples],
    }
    tokens = [token for sample in samples for token in sample.token_ids]
    logprobs = [logprob for sample in samples for logprob in sample.logprobs]
    numbers = struct.pack(f"<{len(tokens)}i{len(logprobs)}d", *tokens, *logprobs)
    return json.dumps(told).encode() + b"\n" + numbers


def decoded(body: bytes, prompts: Mapping[str, Prompt], version: int) -> Group | None:
    """The group, drawn with weights `version`; None unless its key is one of `prompts`, which it answers."""
    line, _, numbers = body.partition(b"\n")
    told = json.loads(line)
    if (prompt := prompts.get(told["key"])) is None:
        return None
    count = sum(length for _, _, length in told["samples"])
    values = struct.unpack(f"<{count}i{count}d", numbers)
    samples, at = [], 0
    for number, (text, reason, length) in enumerate(told["samples"]):
        tokens, logprobs = values[at : at + length], values[count + at : count + at + length]
        samples.append(Sample(prompt, number, list(tokens), list(logprobs), text, reason, version))
        at += length
    return Group(told["key"], samples, told["seconds"])
