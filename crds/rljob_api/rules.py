"""Rules that look at more than one field: each written once, as a Python predicate and as CEL.

`JobSpec` refuses what breaks `RULES`, so that `rljob` says it before anything starts; `crd.py` puts the same tables
into the CRD, so that the API server says it at apply. `tests/api` tries each rule in both places. A predicate may rely
on defaults: both sides apply them first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .checkpoint import AccessMode, InitialCheckpoint
from .data import REASONING_GYM
from .edit_rules import CEL_MEGATRON, EDIT_RULES
from .failure import ExitCodeOperator
from .layout_rules import LAYOUT_RULES
from .parallelism import BackendName
from .pod_rules import POD_RULES
from .reward import BuiltinReward
from .rule import BrokenRulesError, EditRule, Rule, sentences
from .weights import Transport

if TYPE_CHECKING:
    from .job import JobSpec

__all__ = [
    "EDIT_RULES",
    "RULES",
    "BrokenRulesError",
    "EditRule",
    "Rule",
    "broken_edit_rules",
    "broken_rules",
    "sentences",
]


def broken_rules(spec: JobSpec) -> list[Rule]:
    """Every rule that `spec` breaks, with its numbers."""
    return [rule.with_numbers(spec) for rule in RULES if not rule.holds(spec)]


def broken_edit_rules(old: JobSpec, new: JobSpec) -> list[EditRule]:
    """Every rule that changing `old` to `new` breaks."""
    return [rule for rule in EDIT_RULES if not rule.allows(old, new)]


RESERVED_VLLM_ARGS = [
    "--model",
    "--served-model-name",
    "--tokenizer",
    "--revision",
    "--trust-remote-code",
    "--load-format",
    "--host",
    "--port",
    "--uds",
    "--middleware",
    "--api-key",
    "--api-server-count",
    "--headless",
    "--root-path",
    "--weight-transfer-config",
    "--worker-extension-cls",
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--distributed-executor-backend",
    "--dtype",
    "--seed",
    "--max-model-len",
    "--max-num-seqs",
    "--max-logprobs",
    "--logprobs-mode",
    "--gpu-memory-utilization",
    "--kv-cache-memory-bytes",
    "--enforce-eager",
    "--no-enforce-eager",
    "--generation-config",
    "--config",
]
"""vLLM arguments that the operator sets, or that would undo what it sets. vLLM takes any beginning of a name for it."""

RESERVED_VLLM_FAMILIES = ["-asc", "-tp", "-pp", "-dp", "--data-parallel-", "--ssl-"]
"""Beginnings of further such arguments."""

MEGATRON_CHECKPOINT_KNOBS = [
    ("fully-parallel-save", "fullyParallelSave", "fully_parallel_save"),
    ("fully-parallel-load", "fullyParallelLoad", "fully_parallel_load"),
    ("optimizer-sharding", "optimizerSharding", "optimizer_sharding"),
]
"""Names of rule, field and attribute. The schema gives them no default, so that a rule can tell that they were set."""


def _reserved(argument: str) -> bool:
    name = argument.replace("_", "-").split("=")[0].split(".")[0]
    if not name.startswith("-"):
        return False
    return any(known.startswith(name) for known in RESERVED_VLLM_ARGS) or any(
        name.startswith(family) for family in RESERVED_VLLM_FAMILIES
    )


def _needs_shared_volume(spec: JobSpec) -> bool:
    return spec.trainer.num_nodes > 1 or spec.weight_sync.transport is Transport.DISK


def _shared_volume(spec: JobSpec) -> bool:
    storage = spec.checkpoint.storage
    return storage.claim_name is not None or AccessMode.READ_WRITE_MANY in storage.access_modes


def _top_k_by_validation(spec: JobSpec) -> bool:
    top_k = spec.checkpoint.keep_top_k
    return top_k is not None and top_k.metric.startswith("val:")


def _warms_up_in_time(spec: JobSpec) -> bool:
    blocks = [block for block in (spec.dtensor, spec.megatron) if block is not None]
    return all(block.scheduler.warmup_steps < spec.algorithm.grpo.max_steps for block in blocks)


def _all_from_reasoning_gym(spec: JobSpec) -> bool:
    datasets = [data for data in (spec.data.train, spec.data.validation) if data is not None]
    return all(data.source.startswith(REASONING_GYM) for data in datasets)


def _restarts_on_success(spec: JobSpec) -> bool:
    codes = [rule.on_exit_codes for rule in spec.failure_policy.rules if rule.on_exit_codes is not None]
    return any(code.operator is ExitCodeOperator.IN and 0 in code.values for code in codes)


def _absent_on_dtensor(name: str) -> Callable[[JobSpec], bool]:
    return lambda spec: getattr(spec.checkpoint, name) is None or spec.chosen_backend is BackendName.MEGATRON


def _step_of(initial: InitialCheckpoint | None) -> int:
    return (initial and initial.step) or 0


def _names_one(initial: InitialCheckpoint) -> bool:
    by_job = initial.rljob_name is not None
    alone = initial.step is None and initial.claim_name is None
    return by_job != (initial.path is not None) and (by_job or alone)


def _waits_within_deadline(spec: JobSpec) -> bool:
    wait, whole = spec.pre_running_deadline_seconds, spec.active_deadline_seconds
    return wait is None or whole is None or wait < whole


_CEL_MEGATRON = CEL_MEGATRON.replace("SPEC", "self")
_CEL_CLAIM_SHARED = (
    "(has(self.checkpoint.storage.claimName) || 'ReadWriteMany' in self.checkpoint.storage.accessModes)"
)

RULES: list[Rule] = [
    Rule(
        "one-reward",
        "reward",
        "set exactly one of `builtin` and `python`.",
        lambda spec: (spec.reward.builtin is None) != (spec.reward.python is None),
        "has(self.reward.builtin) != has(self.reward.python)",
    ),
    Rule(
        "task-reward-needs-task",
        "reward.builtin",
        "`task` is the scorer of a reasoning-gym task: let all data sources start with `reasoning-gym:`, "
        "or choose `exactMatch` or `math`.",
        lambda spec: spec.reward.builtin is not BuiltinReward.TASK or _all_from_reasoning_gym(spec),
        "!has(self.reward.builtin) || self.reward.builtin != 'task'"
        f" || (self.data.train.source.startsWith('{REASONING_GYM}')"
        f" && (!has(self.data.validation) || self.data.validation.source.startsWith('{REASONING_GYM}')))",
    ),
    Rule(
        "no-megatron-block-on-dtensor",
        "megatron",
        "`backend: dtensor` would ignore this block: remove the block, or remove `backend` to let the block decide.",
        lambda spec: spec.backend is not BackendName.DTENSOR or spec.megatron is None,
        "!has(self.backend) || self.backend != 'dtensor' || !has(self.megatron)",
    ),
    Rule(
        "no-dtensor-block-on-megatron",
        "dtensor",
        "`backend: megatron` would ignore this block: remove the block, or remove `backend` to let the block decide.",
        lambda spec: spec.backend is not BackendName.MEGATRON or spec.dtensor is None,
        "!has(self.backend) || self.backend != 'megatron' || !has(self.dtensor)",
    ),
    Rule(
        "chosen-backend-is-enabled",
        "backend",
        "the block of the backend that trains says `enabled: false`: set it to true, or choose the other backend.",
        lambda spec: spec.backend_options.enabled,
        f"{_CEL_MEGATRON} ? (!has(self.megatron) || self.megatron.enabled)"
        " : (!has(self.dtensor) || self.dtensor.enabled)",
    ),
    *[
        Rule(
            f"{rule}-needs-megatron",
            f"checkpoint.{field}",
            "only the megatron backend has it, and this job trains with dtensor: remove it, or set "
            "`backend: megatron`.",
            _absent_on_dtensor(name),
            f"!has(self.checkpoint.{field}) || {_CEL_MEGATRON}",
        )
        for rule, field, name in MEGATRON_CHECKPOINT_KNOBS
    ],
    Rule(
        "one-rank-per-gpu",
        "trainer.numProcPerNode",
        "on GPUs there is one rank per GPU: remove it, or set it to gpusPerNode.",
        lambda spec: not spec.on_gpu or spec.trainer.num_proc_per_node in {None, spec.trainer.gpus_per_node},
        "self.trainer.gpusPerNode == 0 || !has(self.trainer.numProcPerNode)"
        " || self.trainer.numProcPerNode == self.trainer.gpusPerNode",
    ),
    Rule(
        "rollout-tensor-parallel-needs-gpus",
        "rollout.tensorParallel",
        "it counts the GPUs of one server, and this job has none (trainer.gpusPerNode is 0): set it to 1.",
        lambda spec: spec.on_gpu or spec.rollout.tensor_parallel == 1,
        "self.trainer.gpusPerNode > 0 || self.rollout.tensorParallel == 1",
    ),
    Rule(
        "min-replicas-within-replicas",
        "rollout.minReplicas",
        "training would wait for ever: it must be at most rollout.replicas.",
        lambda spec: spec.rollout.min_replicas <= spec.rollout.replicas,
        "self.rollout.minReplicas <= self.rollout.replicas",
    ),
    Rule(
        "model-len-holds-completion",
        "rollout.vllm.maxModelLen",
        "it holds prompt and completion: it must be above algorithm.sampling.maxNewTokens.",
        lambda spec: (
            spec.rollout.vllm.max_model_len is None
            or spec.rollout.vllm.max_model_len > spec.algorithm.sampling.max_new_tokens
        ),
        "!has(self.rollout.vllm.maxModelLen)"
        " || self.rollout.vllm.maxModelLen > self.algorithm.sampling.maxNewTokens",
    ),
    Rule(
        "vllm-memory-above-zero",
        "rollout.vllm.gpuMemoryUtilization",
        "it must be above 0, for example 0.9.",
        lambda spec: float(spec.rollout.vllm.gpu_memory_utilization) > 0,
        "double(self.rollout.vllm.gpuMemoryUtilization) > 0.0",
    ),
    Rule(
        "own-vllm-args-only",
        "rollout.vllm.extraArgs",
        "one of these is set by the operator (model, address, weights, parallelism, lengths, seed, log-probabilities): "
        "remove it, and use the field of the spec if there is one.",
        lambda spec: not any(_reserved(argument) for argument in spec.rollout.vllm.extra_args),
        "!self.rollout.vllm.extraArgs.map(a, a.replace('_', '-').split('=')[0].split('.')[0])"
        f".exists(name, name.startsWith('-') && ({RESERVED_VLLM_ARGS}.exists(known, known.startsWith(name))"
        f" || {RESERVED_VLLM_FAMILIES}.exists(family, name.startsWith(family))))",
    ),
    Rule(
        "temperature-above-zero",
        "algorithm.sampling.temperature",
        "it must be above 0: greedy completions are all alike, and there is nothing to compare.",
        lambda spec: float(spec.algorithm.sampling.temperature) > 0,
        "double(self.algorithm.sampling.temperature) > 0.0",
    ),
    Rule(
        "top-p-above-zero",
        "algorithm.sampling.topP",
        "it must be above 0; 1.0 means all tokens.",
        lambda spec: float(spec.algorithm.sampling.top_p) > 0,
        "double(self.algorithm.sampling.topP) > 0.0",
    ),
    Rule(
        "top-p-needs-dtensor",
        "algorithm.sampling.topP",
        "below 1 it needs the whole vocabulary on one rank, which the megatron backend has not: set it to 1.0, or "
        "`backend: dtensor`.",
        lambda spec: (
            float(spec.algorithm.sampling.top_p) == 1 or spec.chosen_backend is not BackendName.MEGATRON
        ),
        f"double(self.algorithm.sampling.topP) == 1.0 || !{_CEL_MEGATRON}",
    ),
    Rule(
        "warm-up-ends",
        "algorithm.grpo.maxSteps",
        "it must be above scheduler.warmupSteps, or the learning rate never reaches its peak.",
        _warms_up_in_time,
        "(!has(self.dtensor) || self.dtensor.scheduler.warmupSteps < self.algorithm.grpo.maxSteps)"
        " && (!has(self.megatron) || self.megatron.scheduler.warmupSteps < self.algorithm.grpo.maxSteps)",
    ),
    Rule(
        "nccl-needs-gpus",
        "weightSync.transport",
        "`nccl` needs GPUs (trainer.gpusPerNode above 0): choose `auto` or `gloo`.",
        lambda spec: spec.on_gpu or spec.weight_sync.transport is not Transport.NCCL,
        "self.trainer.gpusPerNode > 0 || self.weightSync.transport != 'nccl'",
    ),
    Rule(
        "shared-volume",
        "checkpoint.storage.accessModes",
        "several nodes, or `weightSync.transport: disk`, need `ReadWriteMany` here, or an existing `claimName`.",
        lambda spec: not _needs_shared_volume(spec) or _shared_volume(spec),
        f"(self.trainer.numNodes == 1 && self.weightSync.transport != 'disk') || {_CEL_CLAIM_SHARED}",
    ),
    Rule(
        "async-save-needs-checkpoints",
        "checkpoint.asyncSave",
        "checkpoints are off: set `checkpoint.enabled: true`, or remove it.",
        lambda spec: spec.checkpoint.enabled or not spec.checkpoint.async_save,
        "self.checkpoint.enabled || !self.checkpoint.asyncSave",
    ),
    Rule(
        "one-initial-checkpoint",
        "initialCheckpoint",
        "set exactly one of `rljobName` and `path`; `step` and `claimName` belong to `rljobName`.",
        lambda spec: spec.initial_checkpoint is None or _names_one(spec.initial_checkpoint),
        "!has(self.initialCheckpoint) || (has(self.initialCheckpoint.rljobName) != has(self.initialCheckpoint.path)"
        " && (has(self.initialCheckpoint.rljobName)"
        " || (!has(self.initialCheckpoint.step) && !has(self.initialCheckpoint.claimName))))",
    ),
    Rule(
        "initial-checkpoint-before-the-end",
        "initialCheckpoint.step",
        "its steps count too, so it must be below algorithm.grpo.maxSteps: raise that, or begin earlier.",
        lambda spec: _step_of(spec.initial_checkpoint) < spec.algorithm.grpo.max_steps,
        "!has(self.initialCheckpoint) || !has(self.initialCheckpoint.step)"
        " || self.initialCheckpoint.step < self.algorithm.grpo.maxSteps",
    ),
    Rule(
        "top-k-needs-checkpoints",
        "checkpoint.keepTopK",
        "checkpoints are off: set `checkpoint.enabled: true`, or remove it.",
        lambda spec: spec.checkpoint.enabled or spec.checkpoint.keep_top_k is None,
        "self.checkpoint.enabled || !has(self.checkpoint.keepTopK)",
    ),
    Rule(
        "top-k-needs-validation",
        "checkpoint.keepTopK.metric",
        "a `val:` metric needs data.validation and algorithm.grpo.validationPeriod above 0: set both, "
        "or use a `train:` metric.",
        lambda spec: (
            not _top_k_by_validation(spec)
            or (spec.data.validation is not None and spec.algorithm.grpo.validation_period > 0)
        ),
        "!has(self.checkpoint.keepTopK) || !self.checkpoint.keepTopK.metric.startsWith('val:')"
        " || (has(self.data.validation) && self.algorithm.grpo.validationPeriod > 0)",
    ),
    Rule(
        "backoff-grows",
        "failurePolicy.backoffSeconds.initial",
        "it must be at most backoffSeconds.max.",
        lambda spec: spec.failure_policy.backoff_seconds.initial <= spec.failure_policy.backoff_seconds.max,
        "self.failurePolicy.backoffSeconds.initial <= self.failurePolicy.backoffSeconds.max",
    ),
    Rule(
        "success-is-no-failure",
        "failurePolicy.rules",
        "exit code 0 is success and matches no rule: remove it from `onExitCodes.values`.",
        lambda spec: not _restarts_on_success(spec),
        "!self.failurePolicy.rules.exists(r, has(r.onExitCodes) && r.onExitCodes.operator == 'In'"
        " && 0 in r.onExitCodes.values)",
    ),
    Rule(
        "one-match-of-a-failure",
        "failurePolicy.rules",
        "set exactly one of `onExitCodes` and `onPodConditions` in each rule.",
        lambda spec: all(
            (rule.on_exit_codes is None) == bool(rule.on_pod_conditions) for rule in spec.failure_policy.rules
        ),
        "self.failurePolicy.rules.all(r, has(r.onExitCodes) != (size(r.onPodConditions) > 0))",
    ),
    Rule(
        "wait-within-deadline",
        "preRunningDeadlineSeconds",
        "it must be below activeDeadlineSeconds, which would come first.",
        _waits_within_deadline,
        "!has(self.preRunningDeadlineSeconds) || !has(self.activeDeadlineSeconds)"
        " || self.preRunningDeadlineSeconds < self.activeDeadlineSeconds",
    ),
    *LAYOUT_RULES,
    *POD_RULES,
]
