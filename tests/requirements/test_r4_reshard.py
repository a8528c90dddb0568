"""R4: one checkpoint, other layouts: what loads goes on as if nothing had changed, what cannot waits for a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from api.jobs import parsed
from requirements.interrupted import Plan, a_model, a_spec, any_backend, build, ran, saved, step
from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.manifest import CheckpointManifest
from rljob_api.status import Exactness
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.checkpoint.facts import model_name, result_facts, run_hash
from rljob_trainer.checkpoint.past import Past
from rljob_trainer.checkpoint.resume import ResumePlan, decide
from rljob_trainer.errors import Unmet
from trainer.checkpoints import VERSIONS
from trainer.ranks import run_ranks
from trainer.test_megatron import make_batch

FULLY = {"optimizerSharding": "FullyReshardable"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"tensor": 2}, {}),
        ({}, {"tensor": 2}),
        ({}, {"pipeline": 2}),
        ({"pipeline": 2}, {}),
        ({"data": 4}, {"data": 2}),
        ({"data": 2}, {"data": 4}),
        ({"data": 2, "overlap": True}, {}),
        ({"tensor": 2, "data": 2}, {"pipeline": 2}),
        ({"context": 2}, {}),
        ({"pipeline": 2, "virtualPipeline": 2}, {"pipeline": 2}),
        ({"expert": 2, "data": 2}, {}),
        ({}, {"expert": 2, "data": 2}),
        ({"expert": 2, "data": 2}, {"tensor": 2, "sequence": True}),
    ],
    ids=lambda layout: "x".join(f"{name}{size}" for name, size in layout.items()) or "one",
)
def test_a_fully_reshardable_checkpoint_goes_on_under_another_layout(
    tmp_path: Path, before: Manifest, after: Manifest
) -> None:
    """Without dropout: losses are those of the run that never changed. Random states are loaded where they can be."""
    then, now = a_spec(**before, checkpoint=FULLY), a_spec(**after)
    model, directory, straight = saved(tmp_path, then, Plan(), now)
    resumed = ran(now, model, Plan(first=3, load=directory, rng=decided(then, now).load_rng))
    for rank in resumed:
        for one, other in zip(straight[0].results[3:], rank.results, strict=True):
            assert other.metrics == pytest.approx(one.metrics, abs=1e-6)
            assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


@pytest.mark.parametrize("cut", [{}, {"expert": 2}], ids=str)
def test_the_number_of_replicas_may_change_without_that(tmp_path: Path, cut: Manifest) -> None:
    model, directory, straight = saved(tmp_path, a_spec(data=4, **cut))
    resumed = ran(a_spec(data=2, **cut), model, Plan(first=3, load=directory, rng=False))
    for one, other in zip(straight[0].results[3:], resumed[0].results, strict=True):
        assert other.metrics == pytest.approx(one.metrics, abs=1e-6)


def a_manifest(spec: JobSpec, **facts: Any) -> CheckpointManifest:
    """Of a checkpoint that the job saved at step 40."""
    whole: Manifest = {"has_rng": True, "has_optimizer": True, "files": [], **facts}
    return CheckpointManifest(
        job_name="demo",
        job_uid="uid",
        attempt=1,
        step=40,
        time="2026-01-01T00:00:00Z",
        run_hash=run_hash(spec),
        model=model_name(spec),
        layout=layout_of(spec),
        versions=VERSIONS,
        **whole,
    )


def decided(before: JobSpec, after: JobSpec, **facts: Any) -> ResumePlan:
    """What a job that went on under `after` takes from the checkpoint that it saved under `before`."""
    return decide(
        a_manifest(before, **facts), result_facts(before), after, layout_of(after), VERSIONS, Past(40)
    )


CUTS = [
    ({"tensor": 2}, {}),
    ({}, {"tensor": 2}),
    ({}, {"pipeline": 2}),
    ({"pipeline": 2}, {}),
    ({"tensor": 2}, {"pipeline": 2}),
    ({"expert": 2, "data": 2}, {"data": 2}),
    ({"data": 2}, {"expert": 2, "data": 2}),
]


@pytest.mark.parametrize(("before", "after"), CUTS)
def test_another_cut_waits_and_names_both_layouts_and_the_knob(before: Manifest, after: Manifest) -> None:
    then, now = a_spec(**before), a_spec(**after)
    with pytest.raises(Unmet) as refusal:
        decided(then, now)
    told = str(refusal.value)
    assert f"under {layout_of(then).short}, and this attempt is {layout_of(now).short}" in told
    assert (
        "only jobs with spec.checkpoint.optimizerSharding: FullyReshardable save one that loads there" in told
    )
    assert "spec.resume.loadOptimizer: " in told


@pytest.mark.parametrize(("before", "after"), CUTS)
def test_another_cut_is_taken_when_the_optimizer_was_saved_for_it(before: Manifest, after: Manifest) -> None:
    """Without random states, which belong to the old cut; the status says what is restored."""
    plan = decided(a_spec(**before, checkpoint=FULLY), a_spec(**after))
    assert (plan.load_optimizer, plan.load_rng) == (True, False)
    assert plan.exactness is Exactness.LOSSLESS
    assert plan.reason.startswith(
        "Went on from step 40 with model, optimizer; not bit for bit, because the layout"
    )


BUCKETS = {
    "overlap is turned on": ({}, {"overlap": True}, "one bucket", "buckets of 40000000 gradients"),
    "and off": ({"overlap": True}, {}, "buckets of 40000000 gradients", "one bucket"),
    "many replicas": (
        {"overlap": True, "data": 40},
        {"overlap": True, "data": 44},
        "buckets of 40000000 gradients",
        "buckets of 44000000 gradients",
    ),
}


@pytest.mark.parametrize(("before", "after", "was", "now"), BUCKETS.values(), ids=BUCKETS)
def test_other_buckets_wait_unless_the_optimizer_was_saved_without(
    before: Manifest, after: Manifest, was: str, now: str
) -> None:
    with pytest.raises(Unmet, match=f"was saved as DpReshardable in {was}, and this attempt has {now}"):
        decided(a_spec(**before), a_spec(**after))
    assert decided(a_spec(**before, checkpoint=FULLY), a_spec(**after)).load_optimizer
    assert decided(a_spec(**before), a_spec(**before)).load_optimizer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"data": 4}, {"data": 2}),
        ({"context": 2}, {}),
        ({"pipeline": 2, "virtualPipeline": 2}, {"pipeline": 2}),
    ],
    ids=["replicas", "context", "virtual stages"],
)
def test_where_stages_and_tensor_ranks_stay_random_states_follow_while_all_of_one_draw_alike(
    before: Manifest, after: Manifest
) -> None:
    """And yet such a resume is never called exact."""
    alike = decided(a_spec(**before, checkpoint=FULLY), a_spec(**after))
    assert (alike.load_optimizer, alike.load_rng) == (True, True)
    unequal = decided(a_spec(**before, checkpoint=FULLY, dropout=0.1), a_spec(**after, dropout=0.1))
    assert (unequal.load_optimizer, unequal.load_rng) == (True, False)
    assert {alike.exactness, unequal.exactness} == {Exactness.LOSSLESS}


def test_random_states_that_are_asked_for_and_cannot_be_had_are_waited_for_with_the_numbers() -> None:
    insist = FULLY | {"loadRng": True}
    with pytest.raises(Unmet, match="random states for tp2-pp1-dp1 and this attempt is tp1-pp1-dp1"):
        decided(a_spec(tensor=2, checkpoint=FULLY), a_spec(checkpoint=insist))
    with pytest.raises(Unmet, match="random states by pp-tp and this attempt needs them by pp-tp-dp"):
        decided(a_spec(data=2), a_spec(data=2, dropout=0.1, checkpoint=insist))
    with pytest.raises(Unmet, match="the checkpoint of step 40 has no random states"):
        decided(a_spec(), a_spec(checkpoint=insist), has_rng=False)


def test_an_optimizer_that_is_not_there_is_missed_only_by_a_job_that_keeps_one() -> None:
    with pytest.raises(Unmet, match="the checkpoint of step 40 was saved without its optimizer"):
        decided(a_spec(), a_spec(), has_optimizer=False)
    without = a_spec(checkpoint={"saveOptimizer": False})
    assert not decided(without, without, has_optimizer=False).load_optimizer


def logprobs_after_load(spec: JobSpec, model: Path, directory: Path) -> Tensor:
    backend = build(spec, model)
    backend.load_checkpoint(directory, optimizer=False, rng=False)
    return backend.logprobs(make_batch())


def test_the_weights_of_spread_experts_load_where_they_are_not_spread(tmp_path: Path) -> None:
    spread = a_spec(expert=2, data=2)
    model, directory, _ = saved(tmp_path, spread, Plan(last=4))
    before = run_ranks(2, logprobs_after_load, spread, model, directory)[0]
    (after,) = run_ranks(1, logprobs_after_load, a_spec(), model, directory)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def on_dtensor(data: int) -> JobSpec:
    grpo = {"learningRate": 1e-2, "maxSteps": 6}
    return parsed(
        backend="dtensor",
        algorithm={"grpo": grpo, "sampling": {"temperature": "0.7"}},
        trainer={"numProcPerNode": data},
    )


def train_and_export(spec: JobSpec, model: Path, target: Path) -> Tensor:
    backend = any_backend(spec, model)
    step(backend, 0)
    backend.save_hf_model(target)
    return backend.logprobs(make_batch())


def ask(spec: JobSpec, model: Path) -> Tensor:
    return any_backend(spec, model).logprobs(make_batch())


@pytest.mark.parametrize(
    ("first", "then"),
    [(a_spec(tensor=2), on_dtensor(2)), (on_dtensor(2), a_spec(pipeline=2))],
    ids=["megatron-TP2-to-dtensor", "dtensor-to-megatron-PP2"],
)
def test_a_job_of_the_other_backend_goes_on_from_an_export(
    tmp_path: Path, first: JobSpec, then: JobSpec
) -> None:
    model, target = a_model(tmp_path / "model", a_spec()), tmp_path / "export"
    trained = run_ranks(2, train_and_export, first, model, target)[0]
    other = run_ranks(2, ask, then, target)[0]
    torch.testing.assert_close(other, trained, atol=1e-5, rtol=0)
    assert not torch.allclose(other, run_ranks(2, ask, then, model)[0], atol=1e-3), "it has learnt something"
