"""One spec that breaks each rule of the API and one beside it that does not, by the rule's name."""

from __future__ import annotations

from typing import NamedTuple

from api.case import Case
from api.jobs import spec
from api.layout_cases import LAYOUT_CASES
from api.pod_cases import ROLE_CASES
from rljob_api.base import Manifest

TASK = {"train": {"source": "reasoning-gym:chain_sum"}}
HELD_OUT = {"train": {"source": "builtin:addition"}, "validation": {"source": "builtin:addition"}}
ONE_NODE_CLAIM = {"storage": {"accessModes": ["ReadWriteOnce"]}}
SHARED_CLAIM = {"storage": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}
OWN_CLAIM = {"storage": {"accessModes": ["ReadWriteOnce"], "claimName": "mine"}}
FOUR_STEPS = {"grpo": {"maxSteps": 4}, "sampling": {"maxNewTokens": 8}}
TOP_K = {"keepTopK": {"count": 1}}
MEGATRON = {"backend": "megatron"}
ONE = {"values": [1]}
DISRUPTED = {"onPodConditions": [{"type": "DisruptionTarget"}]}


def failure_rule(**on_exit_codes: object) -> Manifest:
    rule = {"name": "known", "action": "FailJob", "onExitCodes": on_exit_codes}
    return spec(failurePolicy={"rules": [rule]})


def megatron_only(knob: str, value: object) -> Case:
    """A knob of `checkpoint` that dtensor has not; its default is refused there too, for it would have no effect."""
    block = {"checkpoint": {knob: value}}
    return Case(
        bad=[spec(**block), spec(backend="dtensor", **block), spec(megatron={"enabled": False}, **block)],
        good=[spec(**block, **MEGATRON), spec(megatron={}, dtensor={}, **block)],
    )


def extra_args(*arguments: str) -> Manifest:
    return spec(rollout={"vllm": {"extraArgs": list(arguments)}})


CASES: dict[str, Case] = {
    "one-reward": Case(
        bad=[
            spec(reward={}),
            spec(reward={"builtin": "math", "python": {"module": "mine", "function": "score"}}),
        ],
        good=[spec(reward={"python": {"module": "mine", "function": "score"}})],
    ),
    "task-reward-needs-task": Case(
        bad=[
            spec(reward={"builtin": "task"}),
            spec(reward={"builtin": "task"}, data={**TASK, "validation": {"source": "builtin:addition"}}),
        ],
        good=[spec(reward={"builtin": "task"}, data=TASK)],
    ),
    "no-megatron-block-on-dtensor": Case(
        bad=[spec(backend="dtensor", megatron={}), spec(backend="dtensor", megatron={"enabled": False})],
        good=[spec(backend="dtensor", dtensor={}), spec(megatron={}, dtensor={})],
    ),
    "no-dtensor-block-on-megatron": Case(
        bad=[spec(dtensor={}, **MEGATRON), spec(dtensor={"enabled": False}, **MEGATRON)],
        good=[spec(megatron={}, **MEGATRON)],
    ),
    "chosen-backend-is-enabled": Case(
        bad=[
            spec(megatron={"enabled": False}, **MEGATRON),
            spec(backend="dtensor", dtensor={"enabled": False}),
            spec(dtensor={"enabled": False}, megatron={"enabled": False}),
            spec(dtensor={"enabled": False}),
        ],
        good=[
            spec(dtensor={"enabled": False}, megatron={}),
            spec(dtensor={}, megatron={"enabled": False}),
            spec(megatron={"enabled": False}),
        ],
    ),
    "fully-parallel-save-needs-megatron": megatron_only("fullyParallelSave", False),
    "fully-parallel-load-needs-megatron": megatron_only("fullyParallelLoad", True),
    "optimizer-sharding-needs-megatron": megatron_only("optimizerSharding", "FullyReshardable"),
    "one-rank-per-gpu": Case(
        bad=[
            spec(trainer={"gpusPerNode": 2, "numProcPerNode": 1}),
            spec(trainer={"gpusPerNode": 2, "numProcPerNode": 4}),
        ],
        good=[spec(trainer={"gpusPerNode": 2, "numProcPerNode": 2}), spec(trainer={"numProcPerNode": 4})],
    ),
    "rollout-tensor-parallel-needs-gpus": Case(
        bad=[spec(rollout={"tensorParallel": 2})],
        good=[spec(rollout={"tensorParallel": 2}, trainer={"gpusPerNode": 1})],
    ),
    "min-replicas-within-replicas": Case(
        bad=[spec(rollout={"replicas": 2, "minReplicas": 3}), spec(rollout={"minReplicas": 2})],
        good=[spec(rollout={"replicas": 2, "minReplicas": 2})],
    ),
    "model-len-holds-completion": Case(
        bad=[
            spec(algorithm={"sampling": {"maxNewTokens": 64}}, rollout={"vllm": {"maxModelLen": 64}}),
            spec(rollout={"vllm": {"maxModelLen": 512}}),
        ],
        good=[spec(algorithm={"sampling": {"maxNewTokens": 63}}, rollout={"vllm": {"maxModelLen": 64}})],
    ),
    "vllm-memory-above-zero": Case(
        bad=[
            spec(rollout={"vllm": {"gpuMemoryUtilization": "0"}}),
            spec(rollout={"vllm": {"gpuMemoryUtilization": "0.00"}}),
        ],
        good=[spec(rollout={"vllm": {"gpuMemoryUtilization": "0.01"}})],
    ),
    "own-vllm-args-only": Case(
        bad=[
            extra_args("--model", "x"),
            extra_args("--port=1"),
            extra_args("--max_model_len=9"),
            extra_args("--block-size", "16", "-tp", "2"),
            extra_args("-tp=2"),
            extra_args("--weight-transfer-config.backend=nccl"),
            extra_args("--data-parallel-size", "2"),
            extra_args("--no-enforce-eager"),
            extra_args("--max-model", "9"),
        ],
        good=[extra_args("--block-size", "-1"), extra_args("--model-impl=vllm"), extra_args("--enable-lora")],
    ),
    "temperature-above-zero": Case(
        bad=[spec(algorithm={"sampling": {"temperature": "0.0"}})],
        good=[spec(algorithm={"sampling": {"temperature": "0.01"}})],
    ),
    "top-p-above-zero": Case(
        bad=[spec(algorithm={"sampling": {"topP": "0"}})],
        good=[spec(algorithm={"sampling": {"topP": "0.5"}})],
    ),
    "top-p-needs-dtensor": Case(
        bad=[
            spec(backend="megatron", algorithm={"sampling": {"topP": "0.5"}}),
            spec(megatron={}, algorithm={"sampling": {"topP": "0.99"}}),
        ],
        good=[
            spec(megatron={}, algorithm={"sampling": {"topP": "1.00"}}),
            spec(megatron={"enabled": False}, algorithm={"sampling": {"topP": "0.5"}}),
        ],
    ),
    "warm-up-ends": Case(
        bad=[
            spec(algorithm={"grpo": {"maxSteps": 5}}, dtensor={"scheduler": {"warmupSteps": 5}}),
            spec(algorithm={"grpo": {"maxSteps": 5}}, megatron={"scheduler": {"warmupSteps": 9}}),
        ],
        good=[spec(algorithm={"grpo": {"maxSteps": 5}}, dtensor={"scheduler": {"warmupSteps": 4}})],
    ),
    "nccl-needs-gpus": Case(
        bad=[spec(weightSync={"transport": "nccl"})],
        good=[
            spec(weightSync={"transport": "nccl"}, trainer={"gpusPerNode": 1}),
            spec(weightSync={"transport": "gloo"}),
        ],
    ),
    "shared-volume": Case(
        bad=[
            spec(trainer={"numNodes": 2}, checkpoint=ONE_NODE_CLAIM),
            spec(weightSync={"transport": "disk"}, checkpoint=ONE_NODE_CLAIM),
        ],
        good=[
            spec(checkpoint=ONE_NODE_CLAIM),
            spec(trainer={"numNodes": 2}, checkpoint=SHARED_CLAIM),
            spec(trainer={"numNodes": 2}, checkpoint=OWN_CLAIM),
        ],
    ),
    "async-save-needs-checkpoints": Case(
        bad=[spec(checkpoint={"enabled": False, "asyncSave": True})],
        good=[spec(checkpoint={"asyncSave": True}), spec(checkpoint={"enabled": False})],
    ),
    "one-initial-checkpoint": Case(
        bad=[
            spec(initialCheckpoint={}),
            spec(initialCheckpoint={"rljobName": "warm", "path": "/warm/step_4"}),
            spec(initialCheckpoint={"path": "/warm/step_4", "step": 4}),
            spec(initialCheckpoint={"path": "/warm/step_4", "claimName": "warm-storage"}),
        ],
        good=[
            spec(initialCheckpoint={"rljobName": "warm", "step": 4, "claimName": "shared"}),
            spec(initialCheckpoint={"path": "/warm/step_4"}),
        ],
    ),
    "initial-checkpoint-before-the-end": Case(
        bad=[spec(initialCheckpoint={"rljobName": "warm", "step": 4}, algorithm=FOUR_STEPS)],
        good=[spec(initialCheckpoint={"rljobName": "warm", "step": 3}, algorithm=FOUR_STEPS)],
    ),
    "top-k-needs-checkpoints": Case(
        bad=[spec(data=HELD_OUT, checkpoint={"enabled": False, **TOP_K})],
        good=[spec(data=HELD_OUT, checkpoint=TOP_K)],
    ),
    "top-k-needs-validation": Case(
        bad=[
            spec(checkpoint=TOP_K),
            spec(data=HELD_OUT, checkpoint=TOP_K, algorithm={"grpo": {"validationPeriod": 0}}),
        ],
        good=[spec(checkpoint={"keepTopK": {"count": 1, "metric": "train:reward"}})],
    ),
    "backoff-grows": Case(
        bad=[spec(failurePolicy={"backoffSeconds": {"initial": 9, "max": 8}})],
        good=[spec(failurePolicy={"backoffSeconds": {"initial": 9, "max": 9}})],
    ),
    "success-is-no-failure": Case(
        bad=[failure_rule(operator="In", values=[3, 0]), failure_rule(values=[0])],
        good=[failure_rule(operator="In", values=[3]), failure_rule(operator="NotIn", values=[0])],
    ),
    "one-match-of-a-failure": Case(
        bad=[
            spec(failurePolicy={"rules": [{"name": "a", "action": "FailJob"}]}),
            spec(
                failurePolicy={"rules": [{"name": "a", "action": "FailJob", "onExitCodes": ONE, **DISRUPTED}]}
            ),
        ],
        good=[spec(failurePolicy={"rules": [{"name": "a", "action": "FailJob", **DISRUPTED}]})],
    ),
    "wait-within-deadline": Case(
        bad=[spec(activeDeadlineSeconds=60, preRunningDeadlineSeconds=60)],
        good=[spec(activeDeadlineSeconds=60, preRunningDeadlineSeconds=59), spec(activeDeadlineSeconds=1)],
    ),
    **LAYOUT_CASES,
    **{
        f"{role}-{name}": Case(
            bad=[spec(**{role: bad}) for bad in case.bad], good=[spec(**{role: good}) for good in case.good]
        )
        for name, case in ROLE_CASES.items()
        for role in ("trainer", "rollout")
    },
}

SUSPENDED = spec(suspend=True, trainer={"numProcPerNode": 2})
RUNNING = spec(trainer={"numProcPerNode": 2})


class Edit(NamedTuple):
    """A change of a spec."""

    old: Manifest
    new: Manifest


class EditCase(NamedTuple):
    """Changes that an edit rule looks at."""

    bad: list[Edit]
    good: list[Edit]


def storage(**fields: object) -> Manifest:
    return spec(checkpoint={"storage": fields})


def running_with(**fields: object) -> Edit:
    """A change of a job that runs."""
    return Edit(RUNNING, {**RUNNING, **fields})


def suspended_with(**fields: object) -> Edit:
    """The same while it is suspended."""
    return Edit(SUSPENDED, {**SUSPENDED, **fields})


LAYOUTS: list[Manifest] = [
    {"parallelism": {"tensor": 2}},
    {"trainer": {"numProcPerNode": 2, "numNodes": 2}},
    {"trainer": {"numProcPerNode": 4}},
    {"trainer": {}},
    {"trainer": {"numProcPerNode": 2, "gpusPerNode": 2}},
    {"accelerator": {"resourceName": "amd.com/gpu"}},
]
ON_GPUS = {"trainer": {"gpusPerNode": 2}}
WIDER_SERVERS = {"rollout": {"tensorParallel": 2}}

EDITS: dict[str, EditCase] = {
    "model-stays": EditCase(
        bad=[Edit(spec(), spec(model={"source": "builtin:addition", "trustRemoteCode": True}))],
        good=[Edit(spec(), spec(model={"source": "builtin:addition", "revision": "main"}))],
    ),
    "backend-stays": EditCase(
        bad=[
            running_with(backend="megatron"),
            suspended_with(megatron={}),
            Edit(spec(**MEGATRON), spec(megatron={"enabled": False})),
        ],
        good=[
            suspended_with(backend="dtensor"),
            running_with(megatron={"enabled": False}),
            Edit(spec(**MEGATRON), spec(megatron={"microBatchTokens": 7})),
        ],
    ),
    "storage-stays": EditCase(
        bad=[
            Edit(spec(), storage(storageClassName="nfs")),
            Edit(storage(storageClassName="nfs"), spec()),
            Edit(spec(), storage(size="2Gi")),
            Edit(spec(), storage(claimName="mine")),
            Edit(spec(), storage(accessModes=["ReadWriteOnce"])),
        ],
        good=[
            Edit(spec(), spec(checkpoint={"savePeriod": 7, "storage": {}})),
            Edit(spec(), storage(retentionPolicy={"whenDeleted": "Delete"})),
        ],
    ),
    "managed-by-stays": EditCase(
        bad=[
            Edit(spec(), spec(managedBy="rljob.io/operator")),
            Edit(spec(managedBy="rljob.io/operator"), spec()),
            Edit(spec(managedBy="a.example/b"), spec(managedBy="a.example/c")),
        ],
        good=[Edit(spec(managedBy="a.example/b"), spec(managedBy="a.example/b", suspend=True))],
    ),
    "layout-changes-while-suspended": EditCase(
        bad=[
            *(running_with(**layout) for layout in LAYOUTS),
            Edit(RUNNING, {**SUSPENDED, **LAYOUTS[0]}),
            Edit(spec(**ON_GPUS), spec(**ON_GPUS, **WIDER_SERVERS)),
        ],
        good=[
            Edit(spec(**ON_GPUS, suspend=True), spec(**ON_GPUS, **WIDER_SERVERS)),
            *(suspended_with(**layout) for layout in LAYOUTS),
            Edit(SUSPENDED, {**RUNNING, **LAYOUTS[0]}),
            running_with(rollout={"replicas": 2}),
            running_with(trainer={"numProcPerNode": 2, "image": "example/other:2"}),
        ],
    ),
}
"""Changes that break each edit rule, and some beside them that do not."""
