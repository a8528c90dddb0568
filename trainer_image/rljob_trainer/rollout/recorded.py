"""Rollouts of a replay: what the servers answered when the steps were done first, from the job's own samples.

The trainer takes them in place of a `Fleet` where `Run.replay` names a folder of them. No server is asked, so none need
be there, and none gets weights: whatever comes out differently was computed differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rljob_api.algorithm import Sampling
from rljob_api.manifest import Versions
from rljob_api.progress import TrainPhase
from rljob_api.samples import SampleRecord, step_file
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.errors import Mistake
from rljob_trainer.rollout.fleet import Poll
from rljob_trainer.rollout.kept import KeptStep
from rljob_trainer.weights.sync import Weights


@dataclass(frozen=True)
class Recorded:
    """On rank 0."""

    samples: Path
    """Folder of the files of samples, one a step."""

    def beside(self, versions: Versions, poll: Poll) -> Versions:
        """Nobody else computes."""
        return versions

    def generate(
        self,
        prompts: list[Prompt],
        n: int,
        sampling: Sampling,
        *,
        seed_of: Callable[[Prompt], int],
        step: int,
        poll: Poll,
        phase: TrainPhase = TrainPhase.GENERATE,
        kept: KeptStep | None = None,
    ) -> list[Sample]:
        """What was drawn for the step after `step`, in its order. A prompt that is another today gets the answers that
        stand in its place: the samples of the replay show it.

        Raises `Mistake` if there were more or fewer samples than the job asks for.
        """
        poll()
        path = self.samples / step_file(step + 1)
        records = [SampleRecord.model_validate_json(line) for line in path.read_bytes().splitlines()]
        asked = [prompt for prompt in prompts for _ in range(n)]
        if len(records) != len(asked):
            raise Mistake(
                f"step {step + 1} had {len(records)} samples, and the job asks for {len(asked)}"
                " (spec.algorithm.grpo.promptsPerStep x generationsPerPrompt): replay it with the spec that it ran with"
            )
        return [_sample(prompt, record) for prompt, record in zip(asked, records, strict=True)]


class NoSync:
    """In place of `WeightSync`: nobody draws with the weights."""

    def push(self, weights: Weights, step: int, poll: Poll) -> None:
        """Nothing."""


def _sample(prompt: Prompt, record: SampleRecord) -> Sample:
    return Sample(
        prompt,
        record.number,
        record.token_ids,
        record.logprobs,
        record.text,
        record.finish_reason,
        record.weight_version,
    )
