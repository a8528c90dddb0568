"""Where two runs of the same steps part."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from rljob_api.samples import SampleRecord, drawn
from rljob_cli.difference import Difference, first_difference
from rljob_cli.output import Output
from rljob_cli.replay import _report


def a_sample(number: int = 0, **facts: Any) -> SampleRecord:
    own = {
        "step": 1,
        "prompt_index": 7,
        "number": number,
        "prompt": "1+1=",
        "text": "2",
        "answer": "2",
        "reward": 1.0,
        "advantage": 0.5,
        "weight_version": 0,
        "finish_reason": "stop",
        "tokens": 2,
    }
    return SampleRecord(**own | facts)


def steps(*, loss: float = 0.25, **facts: Any) -> Any:
    """Two steps; `facts` change the second sample of the second."""
    samples = {1: [a_sample(0), a_sample(1)], 2: [a_sample(0), a_sample(1, **facts)]}
    return samples, {"loss": {1: 0.5, 2: loss}, "step_seconds": {1: loss, 2: 9.0}}


def test_equal_runs_do_not_differ_whatever_time_they_took() -> None:
    assert first_difference(steps(), steps()) is None
    samples, curves = steps()
    assert first_difference((samples, curves | {"step_seconds": {1: 3.0}}), steps()) is None


def test_what_was_drawn_comes_before_what_was_computed_from_it() -> None:
    found = first_difference(steps(), steps(loss=0.75, reward=0.0, advantage=-1.0))
    was, now = a_sample(1), a_sample(1, reward=0.0, advantage=-1.0)
    assert found == Difference(2, "reward of prompt 7, completion 1", "1.0", "0.0", (was, now))


def test_tokens_and_their_log_probabilities_are_compared_one_by_one() -> None:
    for tokens, logprobs, what in (
        ([5, 7], [-0.5, -0.25], "token 1"),
        ([5, 6], [-0.5, -0.75], "log-probability of token 1"),
    ):
        was, now = (steps(drawn=drawn(*told)) for told in (([5, 6], [-0.5, -0.25]), (tokens, logprobs)))
        found = first_difference(was, now)
        assert found is not None
        assert found.what == f"{what} of prompt 7, completion 1"


def test_a_file_without_tokens_does_not_differ_by_that() -> None:
    assert first_difference(steps(), steps(drawn=drawn([5, 6], [-0.5, -0.25]))) is None


def test_the_earliest_step_comes_first() -> None:
    samples, curves = steps()
    changed = curves | {"loss": {1: 0.125, 2: 0.25}}
    found = first_difference(steps(reward=0.0), (samples, changed))
    assert found is not None
    assert (found.step, found.what, found.was, found.now) == (1, "loss", "0.5", "0.125")


def test_behind_a_number_of_a_whole_step_are_the_samples_that_weigh_most_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = {41: [a_sample(number, advantage=weighs) for number, weighs in enumerate((0, -2, 0.5, 1))]}
    found = first_difference((samples, {"loss": {41: 0.25}}), (samples, {"loss": {41: 0.75}}))
    assert found is not None
    assert [sample.number for sample in found.behind] == [1, 3, 2]
    _report(found, range(41, 42), "", Output.TEXT)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("Step 41 differs: loss was 0.25 and is 0.75; samples and rewards are the same")
    assert lines[0] == "  from: '1+1=' -> '2'  reward 1, advantage -2"
    _report(found, range(41, 42), "", Output.JSON)
    told = json.loads(capsys.readouterr().out)["difference"]
    assert (len(told["behind"]), told["samples"]) == (3, [])


def test_a_missing_sample_is_a_difference() -> None:
    samples, curves = steps()
    found = first_difference(steps(), (samples | {2: samples[2][:1]}, curves))
    assert found == Difference(2, "number of samples", "2", "1")


def test_nan_equals_nan() -> None:
    assert first_difference(steps(loss=math.nan), steps(loss=math.nan)) is None
