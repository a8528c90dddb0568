"""What a checkpoint says of itself: `manifest.json`, written last, by rank 0."""

from __future__ import annotations

from enum import StrEnum

from .base import Record
from .checkpoint import OptimizerSharding

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = 1


class FileEntry(Record):
    path: str
    """Relative to the checkpoint's directory."""
    bytes: int
    sha256: str


class RngSharding(StrEnum):
    """Which ranks have random streams of their own: what a checkpoint keeps of them."""

    RANK = "rank"
    """Every rank (dtensor)."""
    PP_TP = "pp-tp"
    """Every stage and tensor rank; their replicas draw alike."""
    PP_TP_DP = "pp-tp-dp"
    """Every rank of Megatron: replicas draw unequally."""


class Layout(Record):
    """How the model was spread when it was saved."""

    backend: str
    world: int
    tensor: int = 1
    pipeline: int = 1
    virtual_pipeline: int = 1
    context: int = 1
    expert: int = 1
    expert_tensor: int = 1
    data: int = 1
    rng_sharding: RngSharding = RngSharding.RANK
    """Which ranks have random streams of their own."""
    optimizer_sharding: OptimizerSharding = OptimizerSharding.FULLY_RESHARDABLE
    """Whether the optimizer can be loaded under another layout."""
    bucket_size: int | None = None
    """Numbers in a bucket of gradients, by which `DpReshardable` cuts the optimizer; None: all are in one."""

    @property
    def short(self) -> str:
        """For sentences: tensor, pipeline and data parallel sizes, and of the others those above 1."""
        rarer = {
            "vpp": self.virtual_pipeline,
            "cp": self.context,
            "ep": self.expert,
            "etp": self.expert_tensor,
        }
        used = "".join(f"-{name}{size}" for name, size in rarer.items() if size > 1)
        return f"tp{self.tensor}-pp{self.pipeline}-dp{self.data}{used}"


class ProcessVersions(Record):
    """What a process computes with."""

    rljob: str
    torch: str
    transformers: str
    vllm: str = ""
    cuda: str = ""
    """The one that torch was built for; empty on CPU, as cuDNN's."""
    cudnn: str = ""
    python: str = ""
    device: str = ""
    threads: int = 1
    code: str = ""
    """Digest of RLJob's own Python files in its image."""
    packages: str = ""
    """Digest of names and versions of all Python packages in it."""
    system: str = ""
    """Digest of the libraries beside them from which elementary functions come, and of a GPU's driver."""


class Versions(ProcessVersions):
    """What a bit-exact resume depends on beside the checkpoint: what rank 0 computes with, and more of its attempt."""

    megatron_core: str = ""
    """Empty without that backend."""
    trainer_image: str = ""
    """As it was referred to: by digest it is that image and no other, by tag what the tag stood for; whether that was
    moved, `code` and `packages` tell."""
    rollout_image: str = ""
    difference_among_ranks: str = ""
    """What of all this is another on other ranks than on rank 0."""
    trainer_environment: dict[str, str] | None = None
    """Variables that the job, or the administrator for all jobs, sets for trainers; absent in what an older version
    wrote. Of a Secret its name and key, never the value."""
    rollout_environment: dict[str, str] | None = None
    """The same of rollout servers."""
    rollout_servers: ProcessVersions | None = None
    """What rollout servers compute with, as the first of them told; absent in what an older version wrote, and where
    none was asked."""
    unlike_servers: str = ""
    """What others of them told otherwise; any of them may have answered."""

    @property
    def asked_servers(self) -> bool:
        """Whether it is known what drew the samples, or that it differed."""
        return self.rollout_servers is not None or bool(self.unlike_servers)


class CheckpointManifest(Record):
    format: int = MANIFEST_FORMAT
    job_name: str
    job_uid: str
    attempt: int
    step: int
    time: str
    run_hash: str
    """sha256 of everything in the spec that changes results."""
    model: str
    """Source and revision of the model."""
    layout: Layout
    versions: Versions
    has_rng: bool
    has_optimizer: bool
    metrics: dict[str, float] = {}
    files: list[FileEntry]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)
