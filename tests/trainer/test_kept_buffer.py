"""The buffer of finished groups: what it gives back, what it refuses, and what it costs the volume."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rljob_api.status import Exactness
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.rollout.group import HEAD, Group, bodies, decoded, encoded, record
from rljob_trainer.rollout.kept import KeptRollouts, KeptStep, kept_rollouts
from rljob_trainer.rollout.time_shares import TimeShares
from trainer.checkpoints import VERSIONS, a_run

STATE = LoopState(step=7, prompts_seen=56, metrics={"loss": 0.25})
PROMPTS = {key: Prompt(index, "", [1], "") for index, key in enumerate("abc")}


def a_group(key: str, version: int = 7, tokens: int = 3) -> Group:
    draw = random.Random(key)
    samples = [
        Sample(
            PROMPTS[key],
            number,
            [draw.randrange(150_000) for _ in range(tokens)],
            [-draw.random() for _ in range(tokens)],
            f"Größe\n{key}{number}",
            "stop",
            version,
        )
        for number in range(2)
    ]
    return Group(key, samples, seconds=1.5)


@dataclass
class Attempts:
    """One job's attempts, each with its own buffer."""

    root: Path
    knobs: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    now: float = 0.0
    current: KeptRollouts | None = None

    def next(self, plan_step: int = 7, exact: Exactness = Exactness.EXACT, **spec: Any) -> KeptRollouts:
        self.end()
        self.number += 1
        run = a_run(self.root, self.number, **{"checkpoint": {"finishedRollouts": self.knobs}} | spec)
        plan = ResumePlan(plan_step, None, True, True, exact, "")
        found = kept_rollouts(run, open_storage(run), VERSIONS, plan)
        assert found is not None
        found.clock = lambda: self.now
        self.current = found
        return found

    def end(self) -> None:
        if self.current:
            self.current.close()

    @property
    def files(self) -> list[str]:
        return sorted(path.name.split(".")[0] for path in (self.root / "rollouts").glob("*"))


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(tmp_path, {"afterSeconds": 10})


def write(step: KeptStep, attempts: Attempts, *groups: Group) -> None:
    for group in groups:
        step.add(group)
    attempts.now += 10
    step.write_due()
    attempts.end()


def keys(step: KeptStep) -> str:
    return "".join(group.key for group in step.take(PROMPTS))


def test_a_group_comes_back_bit_for_bit() -> None:
    group = a_group("a", tokens=50)
    assert decoded(encoded(group), PROMPTS, 7) == group
    assert decoded(encoded(group), {}, 7) is None, "nobody asks this any more"


def test_the_next_attempt_has_the_groups_of_the_one_before(attempts: Attempts) -> None:
    write(attempts.next().step(STATE), attempts, a_group("a"), a_group("c"))
    step = attempts.next().step(STATE)
    assert step.take(PROMPTS) == [a_group("a"), a_group("c")]
    write(step, attempts, a_group("b"))
    assert keys(attempts.next().step(STATE)) == "acb", "of both attempts"


def other_state(**changes: Any) -> Callable[[Attempts], KeptStep]:
    return lambda attempts: attempts.next(changes.get("step", 7)).step(STATE.model_copy(update=changes))


def other_spec(attempts: Attempts) -> KeptStep:
    return attempts.next(algorithm={"grpo": {"maxSteps": 10, "learningRate": 0.5}}).step(STATE)


def other_versions(attempts: Attempts) -> KeptStep:
    rollouts = attempts.next()
    rollouts.versions = VERSIONS.model_copy(update={"vllm": "next"})
    return rollouts.step(STATE)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (other_state(metrics={"loss": 0.26}), "another weights"),
        (other_state(step=8), None),
        (other_spec, "another run_hash"),
        (other_versions, "another versions"),
    ],
)
def test_groups_of_other_weights_another_step_spec_or_version_are_not_used(
    attempts: Attempts,
    caplog: pytest.LogCaptureFixture,
    other: Callable[[Attempts], KeptStep],
    why: str | None,
) -> None:
    caplog.set_level(logging.INFO)
    write(attempts.next().step(STATE), attempts, a_group("a"))
    assert keys(other(attempts)) == ""
    assert why is None or why in caplog.text


def test_time_spent_is_no_difference(attempts: Attempts) -> None:
    write(attempts.next().step(STATE), attempts, a_group("a"))
    assert keys(attempts.next().step(STATE.model_copy(update={"elapsed_seconds": 9.0}))) == "a"


@pytest.mark.parametrize(("exact", "used"), [(Exactness.EXACT, "a"), (Exactness.LOSSLESS, "")])
def test_groups_behind_steps_that_are_done_again_need_an_exact_resume(
    attempts: Attempts, exact: Exactness, used: str
) -> None:
    """As after a SIGKILL: otherwise other weights come of those steps."""
    write(attempts.next().step(STATE), attempts, a_group("a"))
    assert keys(attempts.next(plan_step=5, exact=exact).step(STATE)) == used


def test_whatever_is_cut_off_or_flipped_costs_that_record_and_those_behind_it() -> None:
    whole = [b"first", encoded(a_group("a")), encoded(a_group("b"))]
    data = b"".join(map(record, whole))
    ends = [sum(HEAD.size + len(body) for body in whole[: count + 1]) for count in range(3)]
    for at in range(len(data)):
        before = [body for body, end in zip(whole, ends, strict=True) if end <= at]
        assert list(bodies(data[:at])) in ([*before, None], before), "cut off"
        assert list(bodies(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])) == [*before, None], "flipped"


@pytest.mark.parametrize(("damaged", "used"), [(0, ""), (-1, "a")])
def test_a_damaged_group_is_drawn_again(
    attempts: Attempts, caplog: pytest.LogCaptureFixture, damaged: int, used: str
) -> None:
    caplog.set_level(logging.INFO)
    write(attempts.next().step(STATE), attempts, a_group("a"), a_group("b"))
    (path,) = (attempts.root / "rollouts").iterdir()
    data = bytearray(path.read_bytes())
    data[damaged] ^= 1
    path.write_bytes(data)
    assert keys(attempts.next().step(STATE)) == used
    assert f"Rollouts in {path} are drawn again" in caplog.text


def test_a_step_that_is_fast_writes_nothing(attempts: Attempts) -> None:
    step = attempts.next().step(STATE)
    step.add(a_group("a"))
    attempts.now = 9.9
    step.write_due()
    attempts.end()
    assert not (attempts.root / "rollouts").exists()


def test_what_was_finished_before_a_step_proved_slow_is_kept_too(attempts: Attempts) -> None:
    step = attempts.next().step(STATE)
    step.add(a_group("a"))
    step.write_due()
    write(step, attempts, a_group("b"))
    assert keys(attempts.next().step(STATE)) == "ab"


def test_a_checkpoint_removes_what_no_restart_needs(attempts: Attempts) -> None:
    rollouts = attempts.next()
    for number in (7, 8, 9):
        step = rollouts.step(STATE.model_copy(update={"step": number}))
        step.add(a_group("a", number))
        attempts.now += 10
        step.write_due()
    attempts.end()
    rollouts.saved(8)
    assert attempts.files == ["step_8-1", "step_9-1"]
    attempts.next(plan_step=9)
    assert attempts.files == ["step_9-1"]


def test_bytes_are_bounded_by_the_steps_that_matter_least(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart begins at the newest checkpoint, or where training is now; it needs the rest only later."""
    attempts.knobs["maxMib"] = 1
    rollouts = attempts.next()
    for number in (7, 8, 9, 10):
        step = rollouts.step(STATE.model_copy(update={"step": number}))
        step.add(a_group("a", number, tokens=12_000))
        attempts.now += 10
        step.write_due()
    attempts.end()
    assert attempts.files == ["step_10-1", "step_7-1", "step_9-1"]
    write(attempts.next().step(STATE), attempts, a_group("b", tokens=40_000))
    assert "finishedRollouts.maxMib 1 is reached" in caplog.text
    assert "step_7-2" not in attempts.files


@pytest.mark.parametrize("begun", [False, True])
def test_an_attempt_that_comes_back_late_writes_and_removes_nothing(attempts: Attempts, begun: bool) -> None:
    """Whether it has a file of that step already or not, and though it finds no room for more."""
    attempts.knobs["maxMib"] = 1
    late, before = attempts.next(), attempts.number
    step = late.step(STATE.model_copy(update={"step": 9}))
    attempts.current = None
    if begun:
        step.add(a_group("a", 9))
        attempts.now += 10
        step.write_due()
        late.submit(lambda: None).result()
    write(
        attempts.next().step(STATE.model_copy(update={"step": 8})), attempts, a_group("b", 8, tokens=30_000)
    )
    files = {path: path.read_bytes() for path in (attempts.root / "rollouts").iterdir()}
    step.add(a_group("c", 9, tokens=30_000))
    attempts.now += 10
    step.write_due()
    late.close()
    with pytest.raises(FencedError, match=f"attempt {before} may not write"):
        step.write_due()
    assert files == {path: path.read_bytes() for path in (attempts.root / "rollouts").iterdir()}


def test_a_volume_that_takes_nothing_is_told_once_and_training_goes_on(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    step = attempts.next().step(STATE)
    (attempts.root / "rollouts").write_text("no directory")
    write(step, attempts, a_group("a"))
    assert "the finished rollouts of step 8 is not kept: " in caplog.text
    step.add(a_group("b"))
    step.write_due()


@pytest.mark.parametrize(
    "spec",
    [
        {"checkpoint": {"finishedRollouts": {"enabled": False}}},
        {"checkpoint": {"enabled": False}},
        {"resume": {"policy": "Never"}},
    ],
)
def test_a_job_that_keeps_nothing_leaves_nothing(attempts: Attempts, spec: dict[str, Any]) -> None:
    write(attempts.next().step(STATE), attempts, a_group("a"))
    run = a_run(attempts.root, 2, **spec)
    plan = ResumePlan(7, None, True, True, Exactness.EXACT, "")
    assert kept_rollouts(run, open_storage(run), VERSIONS, plan) is None
    assert attempts.files == []


def test_the_time_of_a_step_is_divided_over_what_is_in_flight() -> None:
    shares = TimeShares()
    shares.begin("a", 100)
    shares.begin("b", 104)
    assert shares.end("a", 110) == 4 + 3
    assert shares.end("b", 111) == 3 + 1
    shares.begin("c", 200)
    assert shares.end("c", 205) == 5, "nobody waits between them"


def test_a_record_that_claims_more_than_there_is_is_not_whole() -> None:
    assert list(bodies(record(b"one") + HEAD.pack(2**60, b"x" * 32) + b"two")) == [b"one", None]


def test_a_group_that_answers_another_prompt_now_is_given_to_that_one(attempts: Attempts) -> None:
    write(attempts.next().step(STATE), attempts, a_group("a"))
    asked = replace(PROMPTS["a"], answer="known by now")
    (group,) = attempts.next().step(STATE).take({"a": asked})
    assert {sample.prompt.answer for sample in group.samples} == {"known by now"}
