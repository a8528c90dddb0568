"""What a replay trains on: the samples that were recorded, for the prompts of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from rljob_api.algorithm import Sampling
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.errors import Mistake
from rljob_trainer.rollout.recorded import Recorded
from rljob_trainer.samples import write_samples

PROMPTS = [Prompt(index, f"{index}+1=", [1, index], str(index + 1), {"row": index}) for index in (7, 3)]
GENERATIONS = 2


def a_sample(prompt: Prompt, number: int) -> Sample:
    tokens = [prompt.index, *range(number)]
    return Sample(prompt, number, tokens, [-0.5] * len(tokens), str(number), "stop", 3)


SAMPLES = [a_sample(prompt, number) for prompt in PROMPTS for number in range(GENERATIONS)]


def answered(storage: Path, prompts: list[Prompt]) -> list[Sample]:
    """By what was recorded of step 4."""
    scores = [0.0] * len(SAMPLES)
    folder = write_samples(storage, 4, SAMPLES, scores, scores).parent
    rollouts = Recorded(folder)
    return rollouts.generate(prompts, GENERATIONS, Sampling(), seed_of=lambda _: 0, step=3, poll=lambda: None)


def test_it_is_what_was_drawn_in_its_order(tmp_path: Path) -> None:
    assert answered(tmp_path, PROMPTS) == SAMPLES


def test_another_number_of_samples_than_the_job_asks_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="step 4 had 4 samples, and the job asks for 2 "):
        answered(tmp_path, PROMPTS[:1])
