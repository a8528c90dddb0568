"""Which field reaches which argument of which library: for people who know the library, and for those who debug it.

A table, because it crosses the rooms; `docs/reference.md` shows it, and a test holds each row to the spec and to the
library that is installed. That the values arrive is tested where they are used (`tests/requirements/test_r1_knobs.py`).
"""

from __future__ import annotations

from typing import NamedTuple


class Reach(NamedTuple):
    """One field, and where its value ends up."""

    field: str
    """Path below `spec`."""
    callable: str
    """`module:name` of what takes it."""
    argument: str


MESH = "torch.distributed.device_mesh:init_device_mesh"
GROUP = "torch.distributed:init_process_group"
ADAMW = "torch.optim:AdamW"
SCHEDULE = "rljob_trainer.schedule:learning_rate"
"""Both backends' own; Megatron's optimizer may be one of several libraries."""
MODEL = "megatron.core.transformer.transformer_config:TransformerConfig"
OPTIMIZER = "megatron.core.optimizer:OptimizerConfig"
BUFFERS = "megatron.core.distributed:DistributedDataParallelConfig"
GROUPS = "megatron.core.parallel_state:initialize_model_parallel"
SCHEDULES = [
    f"megatron.core.pipeline_parallel.schedules:forward_backward_{how}"
    for how in ("no_pipelining", "pipelining_without_interleaving", "pipelining_with_interleaving")
]
"""Without pipeline ranks, with them, and with virtual stages."""
WRITE = "megatron.core.dist_checkpointing:save"
READ = "megatron.core.dist_checkpointing:load"
SAVE = "megatron.core.dist_checkpointing.strategies.fully_parallel:FullyParallelSaveStrategyWrapper"
LOAD = "megatron.core.dist_checkpointing.strategies.fully_parallel:FullyParallelLoadStrategyWrapper"
SHARDED = "megatron.core.optimizer:DistributedOptimizer.sharded_state_dict"
RECOMPUTE = "transformers:PreTrainedModel.gradient_checkpointing_enable"
VLLM = "vllm.engine.arg_utils:EngineArgs"
SAMPLING = "vllm:SamplingParams"

REACHES: list[Reach] = [
    Reach("parallelism.tensor", MESH, "mesh_shape"),
    Reach("parallelism.tensor", GROUPS, "tensor_model_parallel_size"),
    Reach("parallelism.pipeline", GROUPS, "pipeline_model_parallel_size"),
    Reach("parallelism.virtualPipeline", GROUPS, "virtual_pipeline_model_parallel_size"),
    Reach("parallelism.context", GROUPS, "context_parallel_size"),
    Reach("parallelism.expert", GROUPS, "expert_model_parallel_size"),
    Reach("parallelism.expertTensor", GROUPS, "expert_tensor_parallel_size"),
    Reach("parallelism.sequence", MODEL, "sequence_parallel"),
    *[Reach("megatron.microBatchTokens", schedule, "num_microbatches") for schedule in SCHEDULES],
    Reach("megatron.attentionDropout", MODEL, "attention_dropout"),
    Reach("megatron.recompute", MODEL, "recompute_granularity"),
    Reach("megatron.overlapGradReduce", BUFFERS, "overlap_grad_reduce"),
    Reach("megatron.overlapParamGather", BUFFERS, "overlap_param_gather"),
    Reach("megatron.overlapParamGather", OPTIMIZER, "overlap_param_gather"),
    Reach("megatron.checkForNanInGrad", BUFFERS, "check_for_nan_in_grad"),
    Reach("megatron.distributedTimeoutMinutes", GROUPS, "distributed_timeout_minutes"),
    Reach("megatron.distributedTimeoutMinutes", GROUP, "timeout"),
    Reach("megatron.loggingLevel", "logging:Logger.setLevel", "level"),
    Reach("megatron.optimizer.beta1", OPTIMIZER, "adam_beta1"),
    Reach("megatron.optimizer.beta2", OPTIMIZER, "adam_beta2"),
    Reach("megatron.optimizer.eps", OPTIMIZER, "adam_eps"),
    Reach("megatron.optimizer.weightDecay", OPTIMIZER, "weight_decay"),
    Reach("megatron.optimizer.maxGradNorm", OPTIMIZER, "clip_grad"),
    Reach("megatron.scheduler.warmupSteps", SCHEDULE, "scheduler"),
    Reach("megatron.scheduler.decay", SCHEDULE, "scheduler"),
    Reach("megatron.scheduler.minFactor", SCHEDULE, "scheduler"),
    Reach("checkpoint.asyncSave", "rljob_trainer.checkpoint.shards:write_shards", "background"),
    Reach("checkpoint.saveOptimizer", WRITE, "sharded_state_dict"),
    Reach("checkpoint.loadRng", READ, "sharded_state_dict"),
    Reach("checkpoint.fullyParallelSave", SAVE, "strategy"),
    Reach("checkpoint.fullyParallelLoad", LOAD, "strategy"),
    Reach("checkpoint.optimizerSharding", SHARDED, "metadata"),
    Reach("dtensor.microBatchTokens", "rljob_trainer.backend.shares:plan_shares", "tokens"),
    Reach("dtensor.attentionDropout", "transformers:Qwen3Config", "attention_dropout"),
    Reach("dtensor.activationCheckpointing", RECOMPUTE, "gradient_checkpointing_kwargs"),
    Reach("dtensor.checkForNanInGrad", "rljob_trainer.backend.dtensor.optimizer:update", "check_finite"),
    Reach("dtensor.distributedTimeoutMinutes", GROUP, "timeout"),
    Reach("dtensor.optimizer.beta1", ADAMW, "betas"),
    Reach("dtensor.optimizer.beta2", ADAMW, "betas"),
    Reach("dtensor.optimizer.eps", ADAMW, "eps"),
    Reach("dtensor.optimizer.weightDecay", ADAMW, "weight_decay"),
    Reach("dtensor.optimizer.maxGradNorm", "torch.nn.utils:clip_grads_with_norm_", "max_norm"),
    Reach("dtensor.scheduler.warmupSteps", ADAMW, "lr"),
    Reach("dtensor.scheduler.decay", ADAMW, "lr"),
    Reach("dtensor.scheduler.minFactor", ADAMW, "lr"),
    Reach("rollout.tensorParallel", VLLM, "tensor_parallel_size"),
    Reach("rollout.vllm.maxModelLen", VLLM, "max_model_len"),
    Reach("rollout.vllm.gpuMemoryUtilization", VLLM, "gpu_memory_utilization"),
    Reach("rollout.vllm.enforceEager", VLLM, "enforce_eager"),
    Reach("rollout.vllm.maxNumSeqs", VLLM, "max_num_seqs"),
    Reach("algorithm.grpo.learningRate", SCHEDULE, "peak"),
    Reach("algorithm.sampling.temperature", SAMPLING, "temperature"),
    Reach("algorithm.sampling.topP", SAMPLING, "top_p"),
    Reach("algorithm.sampling.maxNewTokens", SAMPLING, "max_tokens"),
    Reach("algorithm.sampling.stop", SAMPLING, "stop"),
]
"""In the order of the spec's blocks."""
