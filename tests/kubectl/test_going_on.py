"""What is said of a job's storage when the job goes: where checkpoints stay, and how another job goes on from them."""

from __future__ import annotations

import pytest

from builders import manifest
from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_cli.kubectl.delete import _what_stays
from rljob_cli.kubectl.going_on import initial_checkpoint

SAVED: Manifest = {"checkpoint": {"latest": {"step": 40}, "count": 1}}


def a_manifest(status: Manifest, **storage: object) -> Manifest:
    return manifest(checkpoint={"storage": storage}) | {"status": status}


@pytest.mark.parametrize(
    ("status", "storage", "said"),
    [
        (SAVED, {}, "stay in the claim demo-storage. A job of the same name does not take them up"),
        (
            SAVED,
            {"claimName": "mine"},
            "with `initialCheckpoint: {rljobName: demo, step: 40, claimName: mine}`",
        ),
        (SAVED, {"retentionPolicy": {"whenDeleted": "Delete"}}, "its claim demo-storage goes too"),
        (
            SAVED,
            {"claimName": "mine", "retentionPolicy": {"whenDeleted": "Delete"}},
            "stay in the claim mine.",
        ),
        ({}, {}, "what it wrote stays in the claim demo-storage"),
    ],
)
def test_what_stays_of_a_deleted_job(status: Manifest, storage: Manifest, said: str) -> None:
    assert said in _what_stays(a_manifest(status, **storage))


def test_what_is_said_is_yaml_that_the_api_takes() -> None:
    from ruamel.yaml import YAML

    told = initial_checkpoint(a_manifest(SAVED, claimName="mine"))
    longer = {"algorithm": {"grpo": {"maxSteps": 60}}}
    job = RLJob.parse(manifest(**longer, **YAML(typ="safe").load(told)))
    assert job.spec.initial_checkpoint is not None
    assert job.spec.initial_checkpoint.told == told
