"""R3: each rank gets its own random streams back, so that a resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch

from requirements.interrupted import Plan, Trace, a_model, a_spec, build, ran, same_end, saved
from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.manifest import RngSharding
from rljob_trainer.backend.layout import layout_of
from trainer.ranks import run_ranks

if TYPE_CHECKING:
    from megatron.core.dist_checkpointing.mapping import ShardedObject

Shard = tuple[tuple[int, ...], tuple[int, ...], int]
"""Global shape, offset, replica id."""
LAYOUTS: dict[str, Manifest] = {
    "TP2": {"tensor": 2},
    "PP2": {"pipeline": 2},
    "TP2xDP2": {"tensor": 2, "data": 2},
    "EP2": {"expert": 2, "data": 2},
    "CP2": {"context": 2},
    "PP2xVPP2": {"pipeline": 2, "virtualPipeline": 2},
}


def told(shard: ShardedObject) -> Shard:
    return shard.global_shape, shard.global_offset, shard.replica_id


@pytest.mark.parametrize(
    ("job", "sharding"),
    [
        ({"tensor": 2, "pipeline": 2, "data": 2}, "pp-tp"),
        ({"data": 2}, "pp-tp"),
        ({"expert": 2, "data": 2}, "pp-tp-dp"),
        ({"expertTensor": 2, "data": 2, "on_gpu": True}, "pp-tp-dp"),
        ({"data": 2, "dropout": 0.1}, "pp-tp-dp"),
    ],
    ids=["EP=1", "no EP", "EP>1", "ETP>1", "unequal draws"],
)
def test_the_manifest_says_which_ranks_have_streams_of_their_own(job: Manifest, sharding: str) -> None:
    assert layout_of(a_spec(**job)).rng_sharding == sharding


def shards(places: list[tuple[Manifest, RngSharding]]) -> list[Shard]:
    """In a process where Megatron has made no groups, of experts or others: none of them is asked."""
    from megatron.core import parallel_state

    from rljob_trainer.backend.megatron.parallel import Place
    from rljob_trainer.backend.megatron.rng import sharded_rng

    assert parallel_state.get_expert_model_parallel_group(check_initialized=False) is None
    return [told(sharded_rng("state", Place(**place), sharding)) for place, sharding in places]


def test_shape_offset_and_replica_of_every_kind_of_rank() -> None:
    """Of the rank with tensor 1 of 2, stage 2 of 3, replica 3 of 4."""
    place: Manifest = {"tensor": 1, "tensors": 2, "stage": 2, "stages": 3, "replica": 3, "replicas": 4}
    no_experts, one, two = place, place | {"expert": 0, "experts": 1}, place | {"expert": 1, "experts": 2}
    in_context = place | {"context": 1, "contexts": 2}
    (asked,) = run_ranks(
        1,
        shards,
        [
            (no_experts, RngSharding.PP_TP),
            (one, RngSharding.PP_TP),
            (two, RngSharding.PP_TP_DP),
            (one, RngSharding.PP_TP_DP),
            (in_context, RngSharding.PP_TP),
            (in_context, RngSharding.PP_TP_DP),
        ],
    )
    assert asked == [
        ((3, 2), (2, 1), 3),
        ((3, 2), (2, 1), 3),
        ((3, 2, 4), (2, 1, 3), 0),
        ((3, 2, 4), (2, 1, 3), 0),
        ((3, 2), (2, 1), 7),
        ((3, 2, 8), (2, 1, 7), 0),
    ]


def saved_shard(spec: JobSpec, model: Path) -> Shard:
    backend = build(spec, model)
    state = backend._state(backend.saving, optimizer=False, rng_state=backend.rng_state(), loading=False)
    return told(state["rng"])


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (
            {"tensor": 2, "data": 2},
            [((1, 2), (0, 0), 0), ((1, 2), (0, 1), 0), ((1, 2), (0, 0), 1), ((1, 2), (0, 1), 1)],
        ),
        (
            {"tensor": 2, "data": 2, "dropout": 0.1},
            [((1, 2, 2), (0, tp, dp), 0) for dp in range(2) for tp in range(2)],
        ),
        ({"expert": 2, "data": 2}, [((1, 1, 2), (0, 0, 0), 0), ((1, 1, 2), (0, 0, 1), 0)]),
    ],
    ids=["EP=1", "unequal draws", "EP>1"],
)
def test_what_each_rank_of_a_job_saves(tmp_path: Path, job: Manifest, expected: list[Shard]) -> None:
    spec = a_spec(**job)
    model = a_model(tmp_path, spec)
    assert run_ranks(spec.trainer.world_size, saved_shard, spec, model) == expected


def equal(straight: list[Trace], resumed: list[Trace]) -> list[bool]:
    """By rank."""
    return [same_end(one, other) for one, other in zip(straight, resumed, strict=True)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(tmp_path: Path, layout: str) -> None:
    """Losses, gradient norms, weights, optimizer and the next random numbers; and not without the random states."""
    spec = a_spec(**LAYOUTS[layout], dropout=0.1)
    world = spec.trainer.world_size
    model, directory, straight = saved(tmp_path, spec)
    resumed = Plan(first=3, load=directory)
    assert equal(straight, ran(spec, model, resumed)) == [True] * world

    forgetful = Plan(first=3, last=4, load=directory, drop_rng_of=world - 1)
    assert straight[0].results[3] != ran(spec, model, forgetful)[0].results[0]


def test_one_stream_for_all_replicas_does_not_resume_what_draws_unequally(tmp_path: Path) -> None:
    """Negative control: upstream's rule, (PP, TP) whatever replicas draw, gives replica 1 the stream of replica 0."""
    spec, one_stream = a_spec(data=2, dropout=0.1), RngSharding.PP_TP
    model, directory, straight = saved(tmp_path, spec, Plan(last=4, rng_sharding=one_stream))
    resumed = ran(spec, model, Plan(first=3, last=4, load=directory, rng_sharding=one_stream))
    assert straight[0].results[3] != resumed[0].results[0]


def test_replicas_that_drop_nothing_draw_alike_and_others_do_not(tmp_path: Path) -> None:
    alike, unequal = a_spec(data=2), a_spec(data=2, dropout=0.1)
    model, nothing = a_model(tmp_path, alike), Plan(last=0)
    one, other = ran(alike, model, nothing)
    assert one.draws == other.draws
    one, other = ran(unequal, model, nothing)
    assert one.draws != other.draws


@pytest.mark.parametrize(
    "job",
    [{"tensor": 2}, {"data": 2, "checkpoint": {"optimizerSharding": "FullyReshardable"}}],
    ids=["DpReshardable", "FullyReshardable"],
)
def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, job: Manifest) -> None:
    spec = a_spec(**job, dropout=0.1)
    model, directory, straight = saved(tmp_path, spec, Plan(background=True))
    assert straight == ran(spec, model), "saving changes nothing"
    assert equal(straight, ran(spec, model, Plan(first=3, load=directory))) == [True] * 2


class Tracker:
    """A tracker of CUDA's random states, of either kind."""

    def __init__(self, states: dict[str, Any], *, graph_safe: bool) -> None:
        self.states, self.use_cudagraphable_rng = states, graph_safe

    def get_states(self) -> dict[str, Any]:
        return self.states

    def set_states(self, states: dict[str, Any]) -> None:
        self.states = states


def moved(from_graph_safe: bool, to_graph_safe: bool) -> tuple[bool, str]:
    """Whether a stream goes on where it was after its state has moved to another kind of tracker, and what it is then.

    A generator of the CPU stands in for CUDA's.
    """
    from megatron.core.tensor_parallel import random as megatron_random

    from rljob_trainer.backend.megatron import rng

    device, stream = torch.Generator(), torch.Generator().manual_seed(7)

    def read(*_: object, graph_safe: bool = False, **__: object) -> Any:
        return device.clone_state() if graph_safe else device.get_state()

    def write(state: torch.Tensor, *_: object, **__: object) -> None:
        device.set_state(state)

    def tracked(tracker: Tracker) -> Any:
        return mock.patch.object(rng, "get_cuda_rng_tracker", return_value=tracker)

    old = Tracker({"one": stream if from_graph_safe else stream.get_state()}, graph_safe=from_graph_safe)
    new = Tracker({}, graph_safe=to_graph_safe)
    with (
        mock.patch.object(megatron_random, "_get_cuda_rng_state", read),
        mock.patch.object(megatron_random, "_set_cuda_rng_state", write),
    ):
        with tracked(old):
            kept = rng.read_rng()
        expected = torch.rand(3, generator=stream)
        with tracked(new):
            rng.write_rng(kept)
    state = new.states["one"]
    restored = state if to_graph_safe else torch.Generator().set_state(state)
    return torch.equal(torch.rand(3, generator=restored), expected), type(state).__name__


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("after", "kind"), [(False, "Tensor"), (True, "Generator")])
def test_tracked_states_become_those_of_the_tracker_that_loads_them(
    before: bool, after: bool, kind: str
) -> None:
    assert run_ranks(1, moved, before, after) == [(True, kind)]
