"""Which rows each replica runs, in which micro-batches. Pure; every rank computes the same plan."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from rljob_trainer.batch import Batch


def shares(lengths_B: Tensor, replicas: int, tokens: int) -> list[list[Tensor]]:
    """Row indices by micro-batch and replica, longest rows first; at most `tokens` tokens each with padding.

    A row that alone is longer makes a micro-batch of its own. A replica's share of the last may be empty.
    """
    order = torch.argsort(lengths_B, descending=True, stable=True)
    plan, start = [], 0
    while start < len(order):
        rows = max(1, tokens // int(lengths_B[order[start]]))
        block = order[start : start + rows * replicas]
        plan.append([block[replica::replicas] for replica in range(replicas)])
        start += len(block)
    return plan


def share_of(batch: Batch, plan: list[list[Tensor]], replica: int, device: torch.device) -> list[Batch]:
    """The replica's micro-batches, as many as any other's: an empty share becomes a row that counts nothing."""
    own = [
        batch.rows(part[replica]) if len(part[replica]) else _blank(batch.rows(part[0][:1])) for part in plan
    ]
    return [_moved(micro, device) for micro in own]


def _moved(batch: Batch, device: torch.device) -> Batch:
    present = {f.name: tensor for f in fields(batch) if (tensor := getattr(batch, f.name)) is not None}
    return replace(batch, **{name: tensor.to(device) for name, tensor in present.items()})


def _blank(batch: Batch) -> Batch:
    return replace(batch, mask_BT=torch.zeros_like(batch.mask_BT))
