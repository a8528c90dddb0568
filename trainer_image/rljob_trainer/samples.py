"""Samples of each step on the volume, for people to read and for a replay to train on again. Called by rank 0; bounded.

`STORAGE/samples/step_N.jsonl`, one `SampleRecord` a line. Each file appears whole; a step that is run again
after a restart replaces its file. A draft is named after its attempt, so that no two write to one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rljob_api.samples import SAMPLES_DIR, STEP_FILE, SampleRecord, drawn, step_file
from rljob_trainer.batch import Sample

KEEP_STEPS = 200
KEEP_BYTES = 256 * 2**20
DRAFT = re.compile(r"draft\.(\d+)")


def write_samples(
    storage: Path,
    step: int,
    samples: Sequence[Sample],
    rewards: Sequence[float],
    advantages: Sequence[float],
    *,
    attempt: int = 0,
    keep_steps: int = KEEP_STEPS,
    keep_bytes: int = KEEP_BYTES,
) -> Path:
    """Write the samples of `step`, then remove the oldest steps beyond the bounds; `step` itself always stays.

    Raises `OSError`, and then leaves no draft of its own behind.
    """
    directory = storage / SAMPLES_DIR
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / step_file(step)
    records = [_record(step, *row) for row in zip(samples, rewards, advantages, strict=True)]
    draft = directory / f"draft.{attempt}"
    try:
        draft.write_text("".join(record.model_dump_json(by_alias=True) + "\n" for record in records))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    for old in _beyond(steps_kept(directory), step, keep_steps, keep_bytes):
        old.unlink()
    _remove_older_drafts(directory, attempt)
    return path


def steps_kept(directory: Path) -> dict[int, Path]:
    """Steps with samples in `directory`, the oldest first."""
    found = {int(match[1]): path for path in directory.iterdir() if (match := STEP_FILE.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _remove_older_drafts(directory: Path, attempt: int) -> None:
    """Of attempts that were killed while they wrote."""
    for path in directory.iterdir():
        if (draft := DRAFT.fullmatch(path.name)) and int(draft[1]) < attempt:
            path.unlink(missing_ok=True)


def _beyond(kept: dict[int, Path], step: int, keep_steps: int, keep_bytes: int) -> list[Path]:
    """Files to remove: all that stand before the newest `keep_steps` or, from the newest on, exceed
    `keep_bytes`."""
    surplus, count, total = [], 0, 0
    for number, path in sorted(kept.items(), reverse=True):
        count, total = count + 1, total + path.stat().st_size
        if (count > keep_steps or total > keep_bytes) and number != step:
            surplus.append(path)
    return surplus


def _record(step: int, sample: Sample, reward: float, advantage: float) -> SampleRecord:
    return SampleRecord(
        step=step,
        prompt_index=sample.prompt.index,
        number=sample.number,
        prompt=sample.prompt.text,
        text=sample.text,
        answer=sample.prompt.answer,
        reward=reward,
        advantage=advantage,
        weight_version=sample.weight_version,
        finish_reason=sample.finish_reason,
        tokens=len(sample.token_ids),
        drawn=drawn(sample.token_ids, sample.logprobs),
    )
