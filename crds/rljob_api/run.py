"""What a pod reads: `run.json` in the attempt's ConfigMap. The whole spec, and the names of its neighbours."""

from __future__ import annotations

import json

from pydantic import ValidatorFunctionWrapHandler, field_validator

from .base import EnvVar, Manifest, Record
from .job import ACCEPTED, JobSpec

RUN_FILE = "run.json"


class Paths(Record):
    """Where volumes are mounted in the pod."""

    storage: str
    """Root of the job's directory on the checkpoint volume."""
    cache: str
    """Models made or converted once; shared by all pods, may be lost."""
    initial: str = ""
    """Root of the directory of the job that `initialCheckpoint` names."""


class Replay(Record):
    """For `rljob replay`: the attempt does steps again that the job has done, ends after them, and exports nothing."""

    last_step: int
    """The step to end after."""
    samples: str = ""
    """Folder of the samples that the job trained on, to train on again without any server; empty: servers draw anew."""


class Run(Record):
    """One attempt of one job, as every pod of it sees it."""

    name: str
    namespace: str
    uid: str
    attempt: int
    token: str
    """Fences writers on the volume."""
    spec: JobSpec
    paths: Paths
    master_addr: str
    """Host of trainer rank 0."""
    master_port: int
    progress_port: int
    rollout_hosts: list[str]
    """Host of each rollout replica that the attempt begins with, by index."""
    rollout_host: str = ""
    """Host of any replica, with `{index}` for its index: more of them may come while the attempt runs."""
    rollout_port: int
    default_env: list[EnvVar] = []
    """Environment that the administrator adds to all pods. It is in effect already, and only noted from here."""
    trainer_image: str = ""
    """Image of the attempt's trainers, as it was referred to."""
    rollout_image: str = ""
    replay: Replay | None = None

    @property
    def last_step(self) -> int:
        """The step to end after."""
        return self.replay.last_step if self.replay else self.spec.algorithm.grpo.max_steps

    @property
    def recorded(self) -> str:
        """Folder of samples to train on again; empty where servers draw them."""
        return self.replay.samples if self.replay else ""

    @field_validator("spec", mode="wrap")
    @classmethod
    def _accepted(cls, spec: JobSpec | Manifest, _: ValidatorFunctionWrapHandler) -> JobSpec:
        """Whoever made the run has judged the spec already, perhaps by older rules than ours."""
        if isinstance(spec, JobSpec):
            return spec
        return JobSpec.model_validate_json(json.dumps(spec), context=ACCEPTED)
