"""`rljob samples JOB --step N`: what the policy said, and what it was worth. Reads the job's volume; no torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rljob_api.samples import STEP_FILE, SampleRecord

from .errors import UserMistake
from .output import Output, OutputOption, show
from .places import StoredJob, find_storage


class Order(StrEnum):
    """Which samples come first."""

    PROMPT = "prompt"
    BEST = "best"
    WORST = "worst"


def samples(
    job: StoredJob = None,
    step: Annotated[
        int | None, typer.Option(help="Which step; without it the newest.", show_default=False)
    ] = None,
    first: Annotated[Order, typer.Option(help="Which samples come first.")] = Order.PROMPT,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 32,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the prompts, completions and rewards of a step; in JSON one object a line."""
    records = read(step_file(find_storage(job).samples, step))
    chosen = ordered(records, first)[:limit]
    match output:
        case Output.JSON:
            for record in chosen:
                print(record.model_dump_json(by_alias=True, exclude={"drawn"}))
        case Output.TEXT:
            show(table(records, chosen))


def step_file(directory: Path, step: int | None) -> Path:
    """The samples of `step`, or of the newest step. Raises `UserMistake` that names the steps there are."""
    kept = kept_steps(directory)
    if not kept:
        raise UserMistake(f"no samples in {directory} yet: they appear when the first step is finished")
    if step is None:
        return kept[max(kept)]
    if step not in kept:
        raise UserMistake(
            f"no samples of step {step}: steps {min(kept)} to {max(kept)} are kept in {directory}"
        )
    return kept[step]


def kept_steps(directory: Path) -> dict[int, Path]:
    """The file of each step that has one."""
    files = directory.iterdir() if directory.is_dir() else []
    return {int(match[1]): file for file in files if (match := STEP_FILE.fullmatch(file.name))}


def read(path: Path) -> list[SampleRecord]:
    """The samples in a file. Raises `UserMistake` for one that the trainer did not write so."""
    try:
        return [SampleRecord.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError as error:
        raise UserMistake(f"{path} does not hold samples, or is damaged: show another step") from error


def ordered(records: list[SampleRecord], first: Order) -> list[SampleRecord]:
    """By prompt, or by reward and then as they stand."""
    match first:
        case Order.PROMPT:
            return records
        case Order.BEST:
            return sorted(records, key=lambda record: -record.reward)
        case Order.WORST:
            return sorted(records, key=lambda record: record.reward)


def table(records: list[SampleRecord], chosen: list[SampleRecord]) -> Table:
    """`chosen` as rows, with what all `records` came to as the title."""
    mean = sum(record.reward for record in records) / max(1, len(records))
    title = (
        f"step {records[0].step}: {len(records)} samples, mean reward {mean:.3f}" if records else "no samples"
    )
    if len(chosen) < len(records):
        title += f", {len(chosen)} shown"
    # Narrow: on 80 columns no heading is cut.
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("prompt", "completion", "answer"):
        result.add_column(name, overflow="fold", min_width=len(name))  # all of it is shown
    for name in ("reward", "advantage", "tokens", "weights"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("ended by", no_wrap=True)
    for record in chosen:
        result.add_row(*_cells(record))
    return result


def _cells(record: SampleRecord) -> list[Text]:
    # Text, not str: what a model wrote may look like markup.
    values = [record.prompt, record.text, record.answer, f"{record.reward:g}", f"{record.advantage:+.3f}"]
    return [
        Text(value)
        for value in [*values, str(record.tokens), str(record.weight_version), record.finish_reason]
    ]
