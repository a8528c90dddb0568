"""Which rows each data-parallel replica runs, in which micro-batches. Pure; every rank computes the same plan."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from rljob_trainer.batch import Batch

Plan = list[list[Tensor]]
"""Row indices, by micro-batch and replica."""


def plan_shares(lengths_B: Tensor, replicas: int, tokens: int) -> Plan:
    """Rows by length, longest first, so that rows of a micro-batch are alike; dealt out to replicas in turn.

    A micro-batch has at most `tokens` tokens, padding included; a row that alone is longer has one of its own. A
    replica's share of the last micro-batch may be empty.
    """
    order = torch.argsort(lengths_B, descending=True, stable=True)
    plan: Plan = []
    start = 0
    while start < len(order):
        rows = max(1, tokens // int(lengths_B[order[start]]))
        block = order[start : start + rows * replicas]
        plan.append([block[replica::replicas] for replica in range(replicas)])
        start += len(block)
    return plan


def share_of(batch: Batch, plan: Plan, replica: int, device: torch.device) -> list[Batch]:
    """The replica's micro-batches, as many as every other replica's: collectives inside a model must pair up."""
    return [_moved(_rows(batch, part[replica], part[0]), device) for part in plan]


def _rows(batch: Batch, rows: Tensor, stand_in: Tensor) -> Batch:
    """The rows; for none, two tokens of another's that count for nothing."""
    return batch.rows(rows) if len(rows) else blank(batch.rows(stand_in))


def blank(batch: Batch) -> Batch:
    """Two tokens of the first row, that count for nothing."""
    row = batch.rows(torch.zeros(1, dtype=torch.long, device=batch.tokens_BT.device))
    short = {name: value[:, :2] for name, value in _tensors(row).items() if name.endswith("_BT")}
    two = replace(row, **short, lengths_B=row.lengths_B.clamp(max=2))
    return replace(two, mask_BT=torch.zeros_like(two.mask_BT))


def filled(batch: Batch, rows: int, width: int) -> Batch:
    """The same with padding, down and to the right, that counts for nothing."""

    def fill(name: str, value: Tensor) -> Tensor:
        down = (0, rows - len(value))
        return nn.functional.pad(value, (0, width - value.shape[1], *down) if name.endswith("_BT") else down)

    return replace(batch, **{name: fill(name, value) for name, value in _tensors(batch).items()})


def _moved(batch: Batch, device: torch.device) -> Batch:
    return replace(batch, **{name: value.to(device) for name, value in _tensors(batch).items()})


def _tensors(batch: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if value is not None}
