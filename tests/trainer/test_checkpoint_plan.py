"""What a restart goes on from, and what it claims about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rljob_api.manifest import Versions
from rljob_api.run import Replay
from rljob_api.status import Exactness
from rljob_trainer.checkpoint import facts
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.plan import judged_again, plan_resume
from rljob_trainer.checkpoint.resume import UNNOTED, ResumePlan
from rljob_trainer.errors import Mistake, Unmet
from rljob_trainer.progress import ProgressBoard
from trainer.checkpoints import A_WORKER, BESIDE, VERSIONS, a_run, finish, layout, save


def plan(
    path: Path, attempt: int = 2, world: int = 1, versions: Versions = VERSIONS, **spec: Any
) -> ResumePlan:
    run = a_run(path, attempt, **spec)
    return plan_resume(open_storage(run), run, layout(world), versions)


def test_a_first_attempt_starts_from_the_model(tmp_path: Path) -> None:
    fresh = plan(tmp_path, attempt=1)
    assert (fresh.step, fresh.directory, fresh.resumed) == (0, None, None)


def test_a_restart_goes_on_exactly(tmp_path: Path) -> None:
    save(a_run(tmp_path), 1, 2)
    again = plan(tmp_path)
    assert (again.step, again.load_optimizer, again.load_rng) == (2, True, True)
    assert again.exactness is Exactness.EXACT
    assert again.reason == "Went on from step 2 with model, optimizer, random states, exactly."
    assert again.loop.step == 2


def test_steps_after_the_checkpoint_are_counted_as_lost(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    finish(a_run(tmp_path), 3, 4, 5)
    again = plan(tmp_path)
    assert again.lost_steps == 3
    assert again.exactness is Exactness.EXACT, "they come back identical"


DATA = {"train": {"source": "builtin:addition"}}
OTHER = VERSIONS.model_copy(update={"trainer_image": "rljob@sha256:b"})


def test_what_was_lost_stays_lost_however_many_attempts_die_on_the_way_there(tmp_path: Path) -> None:
    """One dies while it loads, untold; the next has another image, and dies after a step."""
    save(a_run(tmp_path), 2)
    finish(a_run(tmp_path), 3, 4, 5)
    assert plan(tmp_path, 2).lost_steps == 3
    with pytest.raises(Unmet, match="would be BestEffort"):
        plan(tmp_path, 3, versions=OTHER, resume={"exactness": "Lossless"})
    third = plan(tmp_path, 4, versions=OTHER)
    assert (third.lost_steps, third.furthest, third.exactness) == (3, 5, Exactness.BEST_EFFORT)
    finish(a_run(tmp_path, 4), 3, versions=OTHER)
    again = plan(tmp_path, 5)
    assert (again.lost_steps, again.furthest, again.exactness) == (3, 5, Exactness.EXACT), "as they were"


def test_steps_that_another_image_did_do_not_come_back_identical(tmp_path: Path) -> None:
    """Though the checkpoint before them is of this one."""
    save(a_run(tmp_path), 2)
    assert plan(tmp_path, 2, versions=OTHER).exactness is Exactness.LOSSLESS
    finish(a_run(tmp_path, 2), 3, versions=OTHER)
    again = plan(tmp_path, 3)
    assert (again.lost_steps, again.exactness) == (1, Exactness.BEST_EFFORT)
    assert "trainer image was rljob@sha256:b and is rljob:1" in again.reason


@pytest.mark.parametrize(
    ("change", "exactness", "because"),
    [
        ({"world": 2}, Exactness.LOSSLESS, "the layout was tp1-pp1-dp1 and is tp1-pp1-dp2"),
        (
            {"versions": VERSIONS.model_copy(update={"torch": "9"})},
            Exactness.LOSSLESS,
            "torch was 2.13.0 and is 9",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"threads": 2})},
            Exactness.LOSSLESS,
            "threads was 1 and is 2",
        ),
        ({"checkpoint": {"loadRng": False}}, Exactness.LOSSLESS, "random states were not loaded"),
        ({"resume": {"loadOptimizer": False}}, Exactness.BEST_EFFORT, "the optimizer starts fresh"),
        (
            {"algorithm": {"grpo": {"maxSteps": 10, "seed": 7}}},
            Exactness.BEST_EFFORT,
            "spec.algorithm.grpo.seed was 42 and is 7, which changes what prompts come next",
        ),
        (
            {"algorithm": {"grpo": {"maxSteps": 10, "promptsPerStep": 3}}},
            Exactness.BEST_EFFORT,
            "and is 3, which changes what prompts come next",
        ),
        (
            {"data": {"train": {"source": "builtin:addition", "size": 7}}},
            Exactness.BEST_EFFORT,
            "and is 7, which changes what prompts come next",
        ),
        (
            {"algorithm": {"grpo": {"maxSteps": 10, "learningRate": 1e-3}}},
            Exactness.LOSSLESS,
            "and is 0.001.",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"trainer_image": "rljob@sha256:b"})},
            Exactness.LOSSLESS,
            "trainer image was rljob:1 and is rljob@sha256:b",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"code": "sha256 b"})},
            Exactness.LOSSLESS,
            "code was sha256 a and is sha256 b",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"packages": "sha256 b"})},
            Exactness.LOSSLESS,
            "packages was sha256 a and is sha256 b",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"rollout_environment": {"VLLM_CPU_SGL_KERNEL": "1"}})},
            Exactness.LOSSLESS,
            "VLLM_CPU_SGL_KERNEL in the rollout environment was absent and is 1",
        ),
        (
            {"versions": VERSIONS.model_copy(update={"difference_among_ranks": "rank 1: device cpu AVX2"})},
            Exactness.LOSSLESS,
            "difference among ranks was none and is rank 1: device cpu AVX2",
        ),
    ],
)
def test_what_differs_is_named(
    tmp_path: Path, change: dict[str, Any], exactness: Exactness, because: str
) -> None:
    save(a_run(tmp_path), 2)
    again = plan(tmp_path, **change)
    assert again.exactness is exactness
    assert because in again.reason


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": {"grpo": {"maxSteps": 99}}},
        {"checkpoint": {"keepLatest": 9, "savePeriod": 1}},
        {"logging": {"tensorboard": False}},
        {"rollout": {"replicas": 3}},
        {"suspend": False},
    ],
)
def test_what_does_not_change_results_does_not_spoil_exactness(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    save(a_run(tmp_path), 2)
    assert plan(tmp_path, **change).exactness is Exactness.EXACT


def test_a_field_that_did_not_exist_then_had_its_default(tmp_path: Path) -> None:
    """Else the first restart after an upgrade would call every job inexact."""
    run = a_run(tmp_path)
    then = facts.result_facts(run.spec)
    del then["parallelism.context"]
    assert facts.changes(then, run.spec) == []
    now = a_run(tmp_path, backend="megatron", parallelism={"context": 2}, trainer={"numProcPerNode": 2})
    assert facts.Change("parallelism.context", "1", "2") in facts.changes(then, now.spec)


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (
            {"data": DATA | {"validation": {"source": "builtin:addition"}}},
            {"data": DATA},
            "spec.data.validation was there and is absent, which changes what prompts come next",
        ),
        (
            {"reward": {"builtin": "exactMatch"}},
            {"reward": {"python": {"module": "none_such", "function": "score"}}},
            'spec.reward.builtin was "exactMatch" and is absent; spec.reward.python was absent and is there',
        ),
        (
            {},
            {"trainer": {"numProcPerNode": 2}},
            "the number of trainer ranks was 1 and is 2",
        ),
    ],
    ids=["a block went", "a block came", "what is no field"],
)
def test_what_differs_is_told_as_a_person_changed_it(
    tmp_path: Path, then: dict[str, Any], now: dict[str, Any], told: str
) -> None:
    found = facts.changes(facts.result_facts(a_run(tmp_path, **then).spec), a_run(tmp_path, **now).spec)
    assert "; ".join(change.told for change in found) == told


def test_more_steps_change_results_when_the_learning_rate_decays(tmp_path: Path) -> None:
    decay: dict[str, Any] = {"dtensor": {"scheduler": {"decay": "cosine"}}}
    save(a_run(tmp_path, **decay), 2)
    longer = plan(tmp_path, algorithm={"grpo": {"maxSteps": 99}}, **decay)
    assert "spec.algorithm.grpo.maxSteps was 10 and is 99" in longer.reason


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    with pytest.raises(Mistake, match=r"spec.model is Qwen/Qwen3-8B@main, but .* of builtin:addition"):
        plan(tmp_path, model={"source": "Qwen/Qwen3-8B"})


def test_random_states_that_an_edit_put_out_of_reach_are_waited_for_until_another_edit(
    tmp_path: Path,
) -> None:
    insist: dict[str, Any] = {"checkpoint": {"loadRng": True}}
    save(a_run(tmp_path, **insist), 2)
    with pytest.raises(Unmet, match=r"loadRng is true, but .* tp1-pp1-dp1 .* tp1-pp1-dp2"):
        plan(tmp_path, 2, world=2, **insist)
    assert plan(tmp_path, 3, world=2).step == 2
    assert plan(tmp_path, 4, **insist).exactness is Exactness.EXACT, "nothing was lost on the way"


def test_random_states_of_steps_that_no_checkpoint_holds_are_waited_for_too(tmp_path: Path) -> None:
    insist: dict[str, Any] = {"checkpoint": {"loadRng": True}}
    begun(tmp_path, 1, **insist)
    with pytest.raises(Unmet, match="there is no checkpoint to load random states from"):
        plan(tmp_path, 2, **insist)
    assert plan(tmp_path, 3).step == 0


def test_a_checkpoint_of_the_other_backend_is_refused(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    run = a_run(tmp_path, 2)
    other = layout().model_copy(update={"backend": "megatron"})
    with pytest.raises(Mistake, match=r"spec.backend is megatron, but .* written by dtensor"):
        plan_resume(open_storage(run), run, other, VERSIONS)


def test_required_random_states_are_loaded_where_they_fit(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    assert plan(tmp_path, checkpoint={"loadRng": True}).load_rng


def test_never_starts_over_and_sets_the_old_ones_aside(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    fresh = plan(tmp_path, resume={"policy": "Never"})
    assert (fresh.step, fresh.directory) == (0, None)
    assert fresh.reason == "Started from the model, at step 0: spec.resume.policy is Never."
    assert "spec.resume.policy is Never. It was moved to " in fresh.skipped[0]
    assert len(list((tmp_path / "quarantine").iterdir())) == 1, "nothing is deleted"


@pytest.mark.parametrize("named", ["data.train.source", "data.validation.source", "reward.python.module"])
def test_a_local_file_that_was_edited_in_place_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "data.train.source": tmp_path / "sums.jsonl",
        "data.validation.source": tmp_path / "held_out.jsonl",
        "reward.python.module": tmp_path / "reward_that_changes.py",
    }
    for file in files.values():
        file.write_text("{}")
    spec: dict[str, Any] = {
        "data": {name: {"source": str(files[f"data.{name}.source"])} for name in ("train", "validation")},
        "reward": {"python": {"module": "reward_that_changes", "function": "score"}},
    }
    storage = tmp_path / "storage"
    save(a_run(storage, **spec), 2)
    facts._digest.cache_clear()  # as in a new process
    assert plan(storage, **spec).exactness is Exactness.EXACT
    files[named].write_text("[]")
    assert plan(storage, 3, **spec).exactness is Exactness.EXACT, "what was read at the start is what counts"
    facts._digest.cache_clear()
    again = plan(storage, 4, **spec)
    orders = named.startswith("data")
    assert again.exactness is (Exactness.BEST_EFFORT if orders else Exactness.LOSSLESS)
    assert f"spec.{named} (content) was sha256 44136fa355b3 and is sha256 4f53cda18c2b" in again.reason


def test_a_version_that_was_not_noted_then_is_no_doubt(tmp_path: Path) -> None:
    """As of a checkpoint that an older RLJob wrote."""
    save(a_run(tmp_path), 2)
    more = VERSIONS.model_copy(update={"megatron_core": "0.16.1", "cuda": "13.0", "cudnn": "91200"})
    assert plan(tmp_path, versions=more).exactness is Exactness.EXACT
    old = VERSIONS.model_dump(exclude={"megatron_core", "cuda", "cudnn", "trainer_image", "rollout_image"})
    assert Versions.model_validate(old).cuda == ""


def beside(path: Path, servers: Versions, attempt: int = 2, **spec: Any) -> ResumePlan:
    """What may be claimed once the servers have told what they compute with."""
    run = a_run(path, attempt, **spec)
    storage = open_storage(run)
    found = plan_resume(storage, run, layout(), VERSIONS)
    assert found.exactness is Exactness.EXACT, "as far as ranks know"
    return judged_again(found, storage, run, layout(), servers)


OTHER_DEVICE = BESIDE.model_copy(
    update={"rollout_servers": A_WORKER.model_copy(update={"device": "cpu AVX2"})}
)
OTHER_IMAGE = BESIDE.model_copy(
    update={"rollout_servers": A_WORKER.model_copy(update={"packages": "sha256 c"})}
)
MIXED = BESIDE.model_copy(
    update={"unlike_servers": "server 1 computes with device cpu AVX2 instead of cpu AVX512"}
)


@pytest.mark.parametrize(
    ("then", "now", "because"),
    [
        (BESIDE, OTHER_DEVICE, "device of the rollout servers was cpu AVX512 and is cpu AVX2"),
        (BESIDE, OTHER_IMAGE, "packages of the rollout servers was sha256 b and is sha256 c"),
        (
            BESIDE,
            MIXED,
            "rollout servers are unlike: server 1 computes with device cpu AVX2 instead of cpu AVX512",
        ),
        (MIXED, BESIDE, "rollout servers were unlike: server 1 computes with"),
        (MIXED, MIXED, "rollout servers are unlike: server 1 computes with"),
    ],
    ids=["other nodes", "a tag that was moved", "one is another", "one was another", "as unlike as before"],
)
def test_servers_that_compute_otherwise_spoil_exactness(
    tmp_path: Path, then: Versions, now: Versions, because: str
) -> None:
    save(a_run(tmp_path), 2, versions=then)
    again = beside(tmp_path, now)
    assert (again.exactness, again.step, again.loop.step) == (Exactness.LOSSLESS, 2, 2)
    assert because in again.reason
    with pytest.raises(Unmet, match=f"Exact, but the resume from step 2 would be Lossless: {because}"):
        beside(tmp_path, now, attempt=3, resume={"exactness": "Exact"})


def test_steps_drawn_by_other_servers_do_not_come_back_identical(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2, versions=BESIDE)
    finish(a_run(tmp_path), 3, versions=OTHER_DEVICE)
    again = beside(tmp_path, BESIDE)
    assert (again.lost_steps, again.exactness) == (1, Exactness.BEST_EFFORT)
    assert "device of the rollout servers was cpu AVX2 and is cpu AVX512" in again.reason


def test_the_same_servers_as_before_are_no_doubt(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2, versions=BESIDE)
    assert beside(tmp_path, BESIDE).reason.endswith("random states, exactly.")
    assert beside(tmp_path, VERSIONS, attempt=3).exactness is Exactness.EXACT, "recorded samples ask none"


def test_servers_that_an_older_version_did_not_note_are_taken_to_be_the_same(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2)
    again = beside(tmp_path, BESIDE, resume={"exactness": "Exact"})
    assert again.exactness is Exactness.EXACT
    assert again.reason.endswith(f"random states, exactly; {UNNOTED}.")


def test_over_several_gpu_nodes_exactness_is_called_unproven(tmp_path: Path) -> None:
    gpus: dict[str, Any] = {"trainer": {"numNodes": 2, "gpusPerNode": 1}}
    save(a_run(tmp_path, **gpus), 2)
    again = plan(tmp_path, **gpus)
    assert again.exactness is Exactness.LOSSLESS
    assert "exactness over several GPU nodes is unproven" in again.reason
    gpus["trainer"]["numNodes"] = 1
    assert "unproven" not in plan(tmp_path, 3, **gpus).reason


def begun(path: Path, *steps: int, **spec: Any) -> None:
    """An attempt that begins at step 0, and finishes steps without saving one."""
    plan(path, attempt=1, **spec)
    finish(a_run(path, 1, **spec), *steps)


def test_steps_that_no_checkpoint_holds_come_back_identical_if_nothing_was_changed(tmp_path: Path) -> None:
    begun(tmp_path, 1, 2)
    again = plan(tmp_path)
    assert (again.step, again.lost_steps, again.exactness) == (0, 2, Exactness.EXACT)
    assert again.reason.endswith("no checkpoint to go on from; 2 finished steps are done again, exactly.")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"algorithm": {"grpo": {"maxSteps": 10, "learningRate": 1e-3}}}, "learningRate was"),
        ({"versions": VERSIONS.model_copy(update={"torch": "9"})}, "torch was 2.13.0 and is 9"),
        ({"world": 2}, "the layout was tp1-pp1-dp1 and is tp1-pp1-dp2"),
    ],
)
def test_they_do_not_if_something_was(tmp_path: Path, change: dict[str, Any], because: str) -> None:
    begun(tmp_path, 1, 2)
    again = plan(tmp_path, **change)
    assert (again.step, again.lost_steps, again.exactness) == (0, 2, Exactness.BEST_EFFORT)
    assert "2 finished steps are done again, not bit for bit, because" in again.reason
    assert because in again.reason
    third = plan(tmp_path, 3, **change)
    assert (third.lost_steps, third.exactness) == (2, Exactness.BEST_EFFORT), (
        "the second attempt finished no step"
    )


def test_a_job_that_asks_for_exactness_does_not_begin_again_as_another(tmp_path: Path) -> None:
    wants: dict[str, Any] = {"resume": {"exactness": "Exact"}}
    begun(tmp_path, 1, **wants)
    with pytest.raises(
        Unmet, match=r"the resume from step 0 would be BestEffort and cost 1 finished step: torch was"
    ):
        plan(tmp_path, versions=VERSIONS.model_copy(update={"torch": "9"}), **wants)
    assert plan(tmp_path, 3, **wants).exactness is Exactness.EXACT, "what it began with is still known"


@pytest.mark.parametrize("left", [None, b"", b"{}", b"\xff"])
def test_what_is_not_known_of_the_first_steps_is_no_reason_to_call_them_exact(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes | None
) -> None:
    begun(tmp_path, 1)
    (tmp_path / "basis.json").unlink()
    if left is not None:
        (tmp_path / "basis.json").write_bytes(left)
    again = plan(tmp_path)
    assert again.exactness is Exactness.BEST_EFFORT
    assert "it is not known what the steps before depended on" in again.reason
    assert ("basis.json is damaged" in caplog.text) == (left is not None)


@pytest.mark.parametrize("saved", [True, False])
def test_after_a_power_cut_that_tore_the_note_nobody_claims_to_know_what_was_lost(
    tmp_path: Path, saved: bool
) -> None:
    begun(tmp_path, 5)
    if saved:
        save(a_run(tmp_path), 2)
    first = Storage.of(a_run(tmp_path))
    (first.attempts / first.mine.file).write_text("")
    other = VERSIONS.model_copy(update={"torch": "9"})
    again = plan(tmp_path, versions=other)
    assert again.resumed is not None
    assert (again.resumed.lost_steps, again.exactness) == (None, Exactness.BEST_EFFORT)
    assert "how many finished steps are done again is not known" in again.reason


def test_what_was_passed_over_is_told_although_the_resume_is_refused(tmp_path: Path) -> None:
    """It was moved aside: the next attempt finds nothing to tell of."""
    save(a_run(tmp_path), 2, 4)
    (tmp_path / "checkpoints" / "step_4" / "loop.json").write_text("{")
    run = a_run(tmp_path, 2, resume={"loadOptimizer": False, "exactness": "Exact"})
    board = ProgressBoard(run)
    with pytest.raises(Unmet):
        plan_resume(open_storage(run), run, layout(), VERSIONS, board.found)
    told = board.progress()
    (passed_over,) = told.skipped_checkpoints
    assert passed_over.startswith("The checkpoint of step 4 was passed over: loop.json")
    assert told.checkpoint is not None
    assert (told.checkpoint.step, told.checkpoint_count, told.resumed) == (2, 1, None)


@pytest.mark.parametrize("wanted", ["Exact", "Lossless"])
def test_a_resume_that_falls_short_of_what_was_asked_loads_nothing(tmp_path: Path, wanted: str) -> None:
    save(a_run(tmp_path), 2)
    finish(a_run(tmp_path), 3, 4, 5)
    less: dict[str, Any] = {"resume": {"loadOptimizer": False, "exactness": wanted}}
    with pytest.raises(Unmet) as unmet:
        plan(tmp_path, **less)
    assert str(unmet.value) == (
        f"spec.resume.exactness is {wanted}, but the resume from step 2 would be BestEffort and cost 3 finished"
        " steps: the optimizer starts fresh. Undo that, or set spec.resume.exactness to BestEffort, and the job goes"
        " on."
    )
    undone = plan(tmp_path, 3, resume={"exactness": wanted})
    assert (undone.exactness, undone.lost_steps) == (Exactness.EXACT, 3), "what was lost is still known"


def test_the_first_start_owes_no_exactness(tmp_path: Path) -> None:
    assert plan(tmp_path, attempt=1, resume={"exactness": "Exact"}).resumed is None


def of_another_job(path: Path, *steps: int, **spec: Any) -> dict[str, Any]:
    """Its checkpoints are in `path`; what a job begins with them by is returned."""
    save(a_run(path, uid="uid-2", **spec).model_copy(update={"name": "warm"}), *steps)
    return {"initialCheckpoint": {"path": str(path / "checkpoints" / f"step_{steps[-1]}")}}


def test_a_job_begins_with_the_checkpoint_of_another(tmp_path: Path) -> None:
    begun = plan(tmp_path / "new", attempt=1, **of_another_job(tmp_path / "old", 2))
    assert (begun.step, begun.load_optimizer, begun.load_rng) == (2, True, False)
    assert begun.reason.startswith("Went on from step 2 of job warm with model, optimizer; not bit for bit")
    assert begun.loop.step == 2


def test_with_its_random_states_if_told_to(tmp_path: Path) -> None:
    initial = of_another_job(tmp_path / "old", 2)
    begun = plan(tmp_path / "new", attempt=1, checkpoint={"loadRng": True}, **initial)
    assert begun.exactness is Exactness.EXACT


def test_a_replay_of_recorded_samples_is_exact_where_servers_do_not_repeat_theirs(tmp_path: Path) -> None:
    gpu: dict[str, Any] = {"trainer": {"gpusPerNode": 1}}
    initial = of_another_job(tmp_path / "old", 2, **gpu)
    run = a_run(tmp_path / "new", checkpoint={"loadRng": True}, **initial, **gpu)
    found = {}
    for samples in ("", "/samples"):
        replay = run.model_copy(update={"replay": Replay(last_step=3, samples=samples)})
        found[samples] = plan_resume(open_storage(replay), replay, layout(), VERSIONS).doubts
    assert found == {"": ("vLLM on GPUs does not repeat its samples bit for bit",), "/samples": ()}


def test_the_newest_of_a_named_job_is_taken(tmp_path: Path) -> None:
    of_another_job(tmp_path / "old", 2, 4)
    run = a_run(tmp_path / "new", initialCheckpoint={"rljobName": "warm"})
    run = run.model_copy(update={"paths": run.paths.model_copy(update={"initial": str(tmp_path / "old")})})
    assert plan_resume(open_storage(run), run, layout(), VERSIONS).step == 4


def test_its_own_checkpoints_come_first(tmp_path: Path) -> None:
    initial = of_another_job(tmp_path / "old", 2)
    save(a_run(tmp_path / "new"), 3)
    again = plan(tmp_path / "new", **initial)
    assert (again.step, again.load_rng) == (3, True)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.rename(path.with_name("step_9")), r"no directory .*step_2.*there are: step_9"),
        (lambda path: (path / "manifest.json").unlink(), r"is not whole: manifest.json is missing"),
    ],
)
def test_one_that_is_not_there_or_not_whole_is_a_mistake(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    initial = of_another_job(tmp_path / "old", 2)
    spoil(tmp_path / "old" / "checkpoints" / "step_2")
    with pytest.raises(Mistake, match=sentence):
        plan(tmp_path / "new", attempt=1, **initial)
    assert list((tmp_path / "old" / "quarantine").iterdir()) == [], "nothing of another job is touched"


def test_one_of_another_model_is_refused(tmp_path: Path) -> None:
    initial = of_another_job(tmp_path / "old", 2, model={"source": "Qwen/Qwen3-8B"})
    with pytest.raises(Mistake, match=r"spec.model is builtin:addition@main, but .* of Qwen/Qwen3-8B"):
        plan(tmp_path / "new", attempt=1, **initial)
