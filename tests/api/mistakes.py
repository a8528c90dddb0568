"""Specs with one mistake in one field, and specs that look odd and are fine, for both sides of the API."""

from __future__ import annotations

from api.jobs import spec
from rljob_api.base import Manifest

SCHEMA_MISTAKES: dict[str, Manifest] = {
    "missing section": spec(model=None),
    "missing field": spec(data={"train": {}}),
    "unknown section": spec(trainers={}),
    "unknown field": spec(rollout={"replica": 2}),
    "unknown field in a list": spec(trainer={"env": [{"name": "A", "valueFrom": {}}]}),
    "python's own name": spec(weight_sync={"transport": "gloo"}),
    "text for integer": spec(rollout={"replicas": "2"}),
    "fraction for integer": spec(rollout={"replicas": 1.5}),
    "integer for text": spec(model={"source": 7}),
    "number for decimal text": spec(algorithm={"sampling": {"temperature": 1.0}}),
    "text for true": spec(suspend="true"),
    "integer for true": spec(suspend=1),
    "text for a section": spec(reward="math"),
    "list for a section": spec(trainer=[]),
    "section for a list": spec(trainer={"env": {}}),
    "unknown value": spec(weightSync={"transport": "ncl"}),
    "value in another case": spec(backend="Megatron"),
    "below the least": spec(rollout={"replicas": 0}),
    "above the most": spec(algorithm={"grpo": {"learningRate": 1.01}}),
    "at an open end": spec(dtensor={"optimizer": {"beta1": 1}}),
    "at an open start": spec(dtensor={"optimizer": {"eps": 0}}),
    "empty text": spec(model={"source": ""}),
    "long text": spec(model={"source": "x" * 1025}),
    "wrong pattern": spec(checkpoint={"storage": {"size": "many"}}),
    "line break behind a pattern": spec(checkpoint={"storage": {"size": "1Gi\n"}}),
    "wrong pattern in a map": spec(trainer={"resources": {"requests": {"cpu": "-1"}}}),
    "empty list": spec(checkpoint={"storage": {"accessModes": []}}),
    "long list": spec(algorithm={"sampling": {"stop": ["x"] * 17}}),
    "empty text in a list": spec(algorithm={"sampling": {"stop": [""]}}),
    "null in a list": spec(algorithm={"sampling": {"stop": [None]}}),
    "null for what is required": spec(model={"source": None}),
    "repeated name": spec(trainer={"env": [{"name": "A"}, {"name": "A"}]}),
}

TOLERATED: dict[str, Manifest] = {
    "integer for number": spec(algorithm={"grpo": {"learningRate": 1, "klPenalty": 0}}),
    "null for a default": spec(suspend=None, trainer={"numNodes": None}),
    "null for a section": {**spec(), "trainer": None, "megatron": None},
    "null for an absent field": {**spec(), "backend": None, "checkpoint": {"loadRng": None}},
    "empty sections": spec(trainer={}, rollout={"vllm": {}}, checkpoint={"storage": {}}),
    "text with any letters": spec(algorithm={"sampling": {"stop": ["\n", "終", "😀" * 1000]}}),
}
