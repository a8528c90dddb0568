"""`spec.trainer`: the ranks that learn."""

from __future__ import annotations

from pydantic import Field

from .roles import Role


class Trainer(Role):
    """The training ranks: one pod a node, one gang. A rank that fails restarts all of them as a new attempt."""

    num_nodes: int = Field(1, ge=1, le=10_000)
    """Pods."""
    gpus_per_node: int = Field(0, ge=0, le=64)
    """GPUs of each pod; 0 runs the whole job on CPU with gloo."""
    num_proc_per_node: int | None = Field(None, ge=1, le=256)
    """Ranks of each pod; absent means `gpusPerNode`, or 1 on CPU."""

    @property
    def ranks_per_node(self) -> int:
        return self.num_proc_per_node or self.gpus_per_node or 1

    @property
    def world_size(self) -> int:
        return self.num_nodes * self.ranks_per_node
