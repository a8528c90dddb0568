"""What is said of a job's storage when the job goes: where checkpoints stay, and how another job goes on from them."""

from __future__ import annotations

import pytest

from builders import manifest
from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_cli.kubectl.delete import _warning, _what_stays
from rljob_cli.kubectl.going_on import initial_checkpoint
from rljob_cli.kubectl.suspend import _what_stops

SAVED: Manifest = {"checkpoint": {"latest": {"step": 40}, "count": 1}}
OVER: Manifest = SAVED | {"conditions": [{"type": "Failed", "status": "True"}]}


def a_manifest(status: Manifest, **storage: object) -> Manifest:
    return manifest(checkpoint={"storage": storage}) | {"status": status}


@pytest.mark.parametrize(
    ("status", "storage", "said"),
    [
        (SAVED, {}, "stay in the claim demo-storage. A job of the same name does not take them up"),
        (
            OVER,
            {"claimName": "mine"},
            "m, submit one under another name with `initialCheckpoint: {rljobName: demo, step: 40, claimName: mine}`",
        ),
        (
            SAVED,
            {"claimName": "mine"},
            "once its pods are gone, submit one under another name with `initialCheckpoint: {rljobName: demo, claim",
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


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ({}, "what runs saves and stops; to see in its status that it did, `suspend it` first; to delete"),
        ({"enabled": False}, "what runs stops unsaved, as checkpoint.enabled is false; to delete it now"),
        (
            {"onPreemption": {"save": False}},
            "what runs stops without saving, as checkpoint.onPreemption.save is false; to delete it now",
        ),
        (
            {"storage": {"retentionPolicy": {"whenDeleted": "Delete"}}},
            "its claim demo-storage goes too, as retentionPolicy.whenDeleted says; to delete it now",
        ),
    ],
)
def test_what_a_deletion_costs_is_said_before_it(checkpoint: Manifest, said: str) -> None:
    """Trainers are told to go as by a drain, and save if they may."""
    warning = _warning(manifest(checkpoint=checkpoint), 1, "suspend it")
    assert warning.startswith(f"demo has 1 pod: {said}")
    assert warning.endswith("add --yes")


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ({}, "what runs saves and stops; `again` goes on from there"),
        ({"enabled": False}, "what runs stops unsaved, as checkpoint.enabled is false; `again` begins anew"),
        (
            {"onPreemption": {"save": False}},
            "what runs stops without saving, as checkpoint.onPreemption.save is false; `again` goes on from the newest",
        ),
    ],
)
def test_what_a_suspension_stops_and_where_a_resume_goes_on(checkpoint: Manifest, said: str) -> None:
    assert _what_stops(manifest(checkpoint=checkpoint), "again").startswith(said)


def test_what_is_said_is_yaml_that_the_api_takes() -> None:
    from ruamel.yaml import YAML

    told = initial_checkpoint(a_manifest(SAVED, claimName="mine"))
    longer = {"algorithm": {"grpo": {"maxSteps": 60}}}
    job = RLJob.parse(manifest(**longer, **YAML(typ="safe").load(told)))
    assert job.spec.initial_checkpoint is not None
    assert job.spec.initial_checkpoint.told == told
