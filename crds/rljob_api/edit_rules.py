"""What of a spec may change, and when: some of it never, the layout while the job is suspended, the rest at any time.

What changes at any time takes effect when the next attempt begins or the next pod starts; a running attempt keeps its
own. Server numbers, deadlines and `failurePolicy` take effect at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rule import EditRule, same

if TYPE_CHECKING:
    from .checkpoint import Storage
    from .job import JobSpec

CEL_MEGATRON = (
    "(has(SPEC.backend) ? SPEC.backend == 'megatron' : has(SPEC.megatron) && SPEC.megatron.enabled)"
)
STORAGE_FIELDS = ["size", "storageClassName", "accessModes", "claimName"]
"""Those that cannot change; `retentionPolicy` can."""
LAYOUT_FIELDS = [
    "trainer.numNodes",
    "trainer.gpusPerNode",
    "trainer.numProcPerNode",
    "rollout.tensorParallel",
    "accelerator.resourceName",
]


def _fixed(storage: Storage) -> Storage:
    return storage.model_copy(update={"retention_policy": None})


def _layout(spec: JobSpec) -> object:
    trainer = spec.trainer
    return (
        spec.parallelism,
        spec.accelerator,
        (trainer.num_nodes, trainer.gpus_per_node, trainer.num_proc_per_node),
        spec.rollout.tensor_parallel,
    )


EDIT_RULES: list[EditRule] = [
    EditRule(
        "model-stays",
        "model",
        "the model of a job cannot change, its checkpoints are of this model: create a job under another name.",
        lambda old, new: new.model == old.model,
        "self.model == oldSelf.model",
    ),
    EditRule(
        "backend-stays",
        "backend",
        "the backend of a job cannot change, its checkpoints are of this one: create a job under another name.",
        lambda old, new: new.chosen_backend == old.chosen_backend,
        f"{CEL_MEGATRON.replace('SPEC', 'self')} == {CEL_MEGATRON.replace('SPEC', 'oldSelf')}",
    ),
    EditRule(
        "storage-stays",
        "checkpoint.storage",
        "the storage of a job cannot change, its checkpoints are there: create a job under another name. "
        "Only retentionPolicy can change.",
        lambda old, new: _fixed(new.checkpoint.storage) == _fixed(old.checkpoint.storage),
        " && ".join(same(f"checkpoint.storage.{field}") for field in STORAGE_FIELDS),
    ),
    EditRule(
        "managed-by-stays",
        "managedBy",
        "who manages a job is decided when it is created: create it again.",
        lambda old, new: new.managed_by == old.managed_by,
        same("managedBy"),
    ),
    EditRule(
        "layout-changes-while-suspended",
        "parallelism",
        "set `suspend: true` first: parallelism, nodes, GPUs and rollout.tensorParallel change only while no attempt "
        "runs.",
        lambda old, new: old.suspend or _layout(new) == _layout(old),
        "oldSelf.suspend || (self.parallelism == oldSelf.parallelism"
        + "".join(f" && {same(field)}" for field in LAYOUT_FIELDS)
        + ")",
    ),
]
