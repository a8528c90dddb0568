"""One spec that breaks each rule on layouts and one beside it that does not, by the rule's name."""

from __future__ import annotations

from typing import Any

from api.case import Case
from api.jobs import spec
from rljob_api.base import Manifest

MEGATRON = {"backend": "megatron"}
TWO_ANSWERS = {"grpo": {"promptsPerStep": 1, "generationsPerPrompt": 2}}


def on_ranks(ranks: int, parallelism: Manifest, **fields: Any) -> Manifest:
    return spec(trainer={"numProcPerNode": ranks}, parallelism=parallelism, **fields)


def needs_megatron(field: str) -> Case:
    """Two ranks that share something which only Megatron can cut."""
    cut = {field: 2}
    return Case(
        bad=[
            on_ranks(2, cut),
            on_ranks(2, cut, megatron={"enabled": False}),
            on_ranks(2, cut, backend="dtensor"),
        ],
        good=[
            on_ranks(2, cut, **MEGATRON),
            on_ranks(2, cut, megatron={}),
            on_ranks(2, cut, megatron={}, dtensor={}),
        ],
    )


LAYOUT_CASES: dict[str, Case] = {
    "ranks-fill-replicas": Case(
        bad=[
            spec(parallelism={"tensor": 2}),
            spec(parallelism={"tensor": 2, "pipeline": 2}, trainer={"gpusPerNode": 2}, **MEGATRON),
            spec(parallelism={"tensor": 2}, trainer={"numNodes": 3, "numProcPerNode": 3}),
            on_ranks(2, {"tensor": 2, "context": 2}, **MEGATRON),
        ],
        good=[
            on_ranks(2, {"tensor": 2}),
            spec(parallelism={"tensor": 2}, trainer={"gpusPerNode": 4}),
            spec(parallelism={"tensor": 2}, trainer={"numNodes": 2}),
        ],
    ),
    "ranks-fill-experts": Case(
        bad=[
            on_ranks(3, {"expert": 2}, **MEGATRON),
            on_ranks(4, {"expert": 4, "pipeline": 2}, **MEGATRON),
            spec(trainer={"gpusPerNode": 2}, parallelism={"expert": 2, "expertTensor": 2}, **MEGATRON),
        ],
        good=[on_ranks(4, {"expert": 2, "pipeline": 2}, **MEGATRON)],
    ),
    "work-for-every-rank": Case(
        bad=[on_ranks(3, {}, algorithm=TWO_ANSWERS)], good=[on_ranks(2, {}, algorithm=TWO_ANSWERS)]
    ),
    "pipeline-needs-megatron": needs_megatron("pipeline"),
    "context-needs-megatron": needs_megatron("context"),
    "expert-needs-megatron": needs_megatron("expert"),
    "expert-tensor-needs-megatron": Case(
        bad=[spec(trainer={"gpusPerNode": 2}, parallelism={"expertTensor": 2})],
        good=[spec(trainer={"gpusPerNode": 2}, parallelism={"expertTensor": 2}, **MEGATRON)],
    ),
    "virtual-pipeline-needs-pipeline": Case(
        bad=[on_ranks(2, {"virtualPipeline": 2}, **MEGATRON)],
        good=[on_ranks(2, {"pipeline": 2, "virtualPipeline": 2}, **MEGATRON)],
    ),
    "expert-tensor-needs-gpus": Case(
        bad=[on_ranks(2, {"expertTensor": 2}, **MEGATRON)],
        good=[spec(trainer={"gpusPerNode": 2}, parallelism={"expertTensor": 2}, **MEGATRON)],
    ),
    "sequence-needs-megatron": Case(
        bad=[on_ranks(2, {"tensor": 2, "sequence": True})],
        good=[on_ranks(2, {"tensor": 2, "sequence": True}, **MEGATRON)],
    ),
    "sequence-needs-tensor": Case(
        bad=[on_ranks(2, {"sequence": True}, **MEGATRON)],
        good=[on_ranks(2, {"tensor": 2, "sequence": True}, **MEGATRON)],
    ),
    "overlap-gather-needs-overlap-reduce": Case(
        bad=[spec(megatron={"overlapParamGather": True})],
        good=[
            spec(megatron={"overlapParamGather": True, "overlapGradReduce": True}),
            spec(megatron={"overlapGradReduce": True}),
        ],
    ),
    "experts-and-tensor-need-sequence": Case(
        bad=[on_ranks(2, {"tensor": 2, "expert": 2}, **MEGATRON)],
        good=[on_ranks(2, {"tensor": 2, "expert": 2, "sequence": True}, **MEGATRON)],
    ),
}
