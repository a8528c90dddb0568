"""Rules on how a model is spread: ranks that fill whole replicas, and what only the megatron backend can cut.

What needs the model itself (heads, layers, experts by their ranks) is asked by the trainer before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .edit_rules import CEL_MEGATRON
from .parallelism import BackendName
from .rule import Rule

if TYPE_CHECKING:
    from .job import JobSpec

MEGATRON_ONLY = [
    ("pipeline", "pipeline", "pipeline"),
    ("context", "context", "context"),
    ("expert", "expert", "expert"),
    ("expert-tensor", "expertTensor", "expert_tensor"),
]
"""Names of rule, field and attribute of what dtensor cannot cut. Virtual stages need stages, and so need it too."""

_CEL_PER_NODE = (
    "(has(self.trainer.numProcPerNode) ? self.trainer.numProcPerNode"
    " : (self.trainer.gpusPerNode > 0 ? self.trainer.gpusPerNode : 1))"
)
_CEL_WORLD = f"(self.trainer.numNodes * {_CEL_PER_NODE})"
_CEL_REPLICA = "(self.parallelism.tensor * self.parallelism.pipeline * self.parallelism.context)"
_CEL_EXPERTS = "(self.parallelism.expertTensor * self.parallelism.expert * self.parallelism.pipeline)"
_CEL_SAMPLES = "(self.algorithm.grpo.promptsPerStep * self.algorithm.grpo.generationsPerPrompt)"


def _replicas(spec: JobSpec) -> str:
    return f"{spec.trainer.world_size} is not a multiple of {spec.parallelism.replica_ranks}: "


def _experts(spec: JobSpec) -> str:
    return f"{spec.trainer.world_size} is not a multiple of {spec.parallelism.expert_ranks}: "


def _one_on_dtensor(name: str) -> Callable[[JobSpec], bool]:
    return lambda spec: getattr(spec.parallelism, name) == 1 or spec.chosen_backend is BackendName.MEGATRON


def _gathers_by_buckets(spec: JobSpec) -> bool:
    options = spec.megatron
    return options is None or not options.overlap_param_gather or options.overlap_grad_reduce


LAYOUT_RULES: list[Rule] = [
    Rule(
        "ranks-fill-replicas",
        "parallelism",
        "ranks (trainer.numNodes x ranks per node) must be a multiple of tensor x pipeline x context: "
        "change trainer.numNodes, trainer.gpusPerNode or trainer.numProcPerNode, or cut the model less.",
        lambda spec: spec.trainer.world_size % spec.parallelism.replica_ranks == 0,
        f"{_CEL_WORLD} % {_CEL_REPLICA} == 0",
        _replicas,
    ),
    Rule(
        "ranks-fill-experts",
        "parallelism.expert",
        "ranks (trainer.numNodes x ranks per node) must be a multiple of expertTensor x expert x pipeline: "
        "change trainer.numNodes, trainer.gpusPerNode or trainer.numProcPerNode, or cut the experts less.",
        lambda spec: (
            not spec.parallelism.cuts_experts or spec.trainer.world_size % spec.parallelism.expert_ranks == 0
        ),
        f"(self.parallelism.expert == 1 && self.parallelism.expertTensor == 1) || {_CEL_WORLD} % {_CEL_EXPERTS} == 0",
        _experts,
    ),
    Rule(
        "work-for-every-rank",
        "algorithm.grpo",
        "promptsPerStep x generationsPerPrompt must be at least the number of model replicas "
        "(ranks / (tensor x pipeline x context)): ask more, or use fewer ranks.",
        lambda spec: (
            spec.algorithm.grpo.prompts_per_step * spec.algorithm.grpo.generations_per_prompt
            >= spec.data_parallel
        ),
        f"{_CEL_SAMPLES} >= {_CEL_WORLD} / {_CEL_REPLICA}",
    ),
    *[
        Rule(
            f"{rule}-needs-megatron",
            f"parallelism.{field}",
            f"above 1 it needs the megatron backend: set `backend: megatron`, or {field} to 1.",
            _one_on_dtensor(name),
            f"self.parallelism.{field} == 1 || {CEL_MEGATRON.replace('SPEC', 'self')}",
        )
        for rule, field, name in MEGATRON_ONLY
    ],
    Rule(
        "virtual-pipeline-needs-pipeline",
        "parallelism.virtualPipeline",
        "it cuts the layers of a pipeline rank into pieces: set parallelism.pipeline above 1, or remove it.",
        lambda spec: spec.parallelism.virtual_pipeline == 1 or spec.parallelism.pipeline > 1,
        "self.parallelism.virtualPipeline == 1 || self.parallelism.pipeline > 1",
    ),
    Rule(
        "expert-tensor-needs-gpus",
        "parallelism.expertTensor",
        "above 1, ranks exchange unequal numbers of tokens, which gloo on CPU cannot gather: set it to 1.",
        lambda spec: spec.parallelism.expert_tensor == 1 or spec.on_gpu,
        "self.parallelism.expertTensor == 1 || self.trainer.gpusPerNode > 0",
    ),
    Rule(
        "sequence-needs-megatron",
        "parallelism.sequence",
        "it needs the megatron backend: set `backend: megatron`, or remove it.",
        lambda spec: not spec.parallelism.sequence or spec.chosen_backend is BackendName.MEGATRON,
        f"!self.parallelism.sequence || {CEL_MEGATRON.replace('SPEC', 'self')}",
    ),
    Rule(
        "sequence-needs-tensor",
        "parallelism.sequence",
        "it shares positions among tensor ranks, and there is one: set parallelism.tensor above 1, or remove it.",
        lambda spec: not spec.parallelism.sequence or spec.parallelism.tensor > 1,
        "!self.parallelism.sequence || self.parallelism.tensor > 1",
    ),
    Rule(
        "overlap-gather-needs-overlap-reduce",
        "megatron.overlapParamGather",
        "it gathers by the buckets that gradients are added up in: set megatron.overlapGradReduce too, or remove it.",
        _gathers_by_buckets,
        "!has(self.megatron) || !self.megatron.overlapParamGather || self.megatron.overlapGradReduce",
    ),
    Rule(
        "experts-and-tensor-need-sequence",
        "parallelism.sequence",
        "with expert and tensor both above 1, tensor ranks would send the same tokens to experts: set it to true.",
        lambda spec: (
            spec.parallelism.expert == 1 or spec.parallelism.tensor == 1 or spec.parallelism.sequence
        ),
        "self.parallelism.expert == 1 || self.parallelism.tensor == 1 || self.parallelism.sequence",
    ),
]
