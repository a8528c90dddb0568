"""`rljob checkpoint ls | verify | export`: what is on a job's volume. Only `export` imports torch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rljob_api.manifest import CheckpointManifest
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.evaluation import added_metrics
from rljob_trainer.checkpoint.verify import BrokenCheckpointError, read_manifest, verify
from rljob_trainer.errors import Mistake

from .errors import UserMistake
from .output import Output, OutputOption
from .places import StoredJob, find_storage

app = typer.Typer(no_args_is_help=True)


@app.command("ls")
def list_checkpoints(job: StoredJob = None, output: OutputOption = Output.TEXT) -> None:
    """List a job's checkpoints: step, age, size, layout, and whether the files are all there."""
    directory = find_storage(job)
    rows = [_row(directory, step) for step in directory.steps()]
    match output:
        case Output.JSON:
            typer.echo(json.dumps(rows))
        case Output.TEXT:
            Console().print(_table(rows, datetime.now(UTC)))
            for path in sorted(directory.quarantine.glob("*")):
                typer.echo(f"set aside, because it did not verify or was not to be resumed: {path}")


@app.command("verify")
def verify_checkpoints(
    job: StoredJob = None,
    step: Annotated[int | None, typer.Option(help="Only this step.", show_default=False)] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read every byte and compare checksums. Exit code 1 if anything is wrong."""
    directory = find_storage(job)
    found = {each: verify(directory.checkpoint(each)) for each in _chosen(directory, step)}
    match output:
        case Output.JSON:
            typer.echo(json.dumps([{"step": each, "problems": found[each]} for each in found]))
        case Output.TEXT:
            for each, problems in found.items():
                typer.echo("\n".join(f"step {each}: {told}" for told in problems or ["whole"]))
    if any(found.values()):
        raise typer.Exit(1)


@app.command("export")
def export(
    to: Annotated[Path, typer.Option(help="Directory to make.")],
    job: StoredJob = None,
    step: Annotated[
        int | None, typer.Option(help="Which; without it the newest.", show_default=False)
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a Hugging Face directory of a checkpoint, for transformers and vLLM."""
    directory = find_storage(job)
    chosen = _chosen(directory, step)[-1]
    from rljob_trainer.checkpoint.export import export_checkpoint

    try:
        export_checkpoint(directory.checkpoint(chosen), to)
    except (Mistake, StorageError) as told:
        raise UserMistake(str(told)) from told
    answer = {"step": chosen, "path": str(to)}
    typer.echo(json.dumps(answer) if output is Output.JSON else f"step {chosen} is in {to}")


def _chosen(directory: Directory, step: int | None) -> list[int]:
    steps = directory.steps()
    if not steps:
        raise UserMistake(
            f"no checkpoint in {directory.checkpoints} yet: one is saved every spec.checkpoint.savePeriod steps, and "
            "after the last"
        )
    if step is not None and step not in steps:
        raise UserMistake(f"no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return steps if step is None else [step]


def _row(directory: Directory, step: int) -> dict[str, object]:
    """The manifest in short. Sizes are compared; checksums are `verify`'s."""
    path = directory.checkpoint(step)
    try:
        manifest = read_manifest(path)
    except BrokenCheckpointError as error:
        return {"step": step, "path": str(path), "problem": str(error)}
    facts = manifest.model_dump(mode="json", by_alias=True, exclude={"files", "versions", "layout"})
    return {
        **facts,
        "path": str(path),
        "metrics": manifest.metrics | added_metrics(path),
        "bytes": manifest.bytes,
        "layout": manifest.layout.short,
        "problem": _misfit(path, manifest),
    }


def _misfit(path: Path, manifest: CheckpointManifest) -> str:
    for file in manifest.files:
        place = path / file.path
        if not place.is_file() or place.stat().st_size != file.bytes:
            return f"{file.path} is missing or has another size"
    return ""


def _table(rows: list[dict[str, object]], now: datetime) -> Table:
    table = Table("step", "age", "size", "layout", "rng", "optimizer", "attempt", "problem")
    for row in rows:
        if "time" not in row:
            table.add_row(str(row["step"]), *[""] * 6, str(row["problem"]))
            continue
        age = now - datetime.fromisoformat(str(row["time"]))
        told = (_yes(row["hasRng"]), _yes(row["hasOptimizer"]), str(row["attempt"]), str(row["problem"]))
        size = f"{int(str(row['bytes'])) / 2**20:.1f} MiB"
        table.add_row(str(row["step"]), str(age).split(".", 1)[0], size, str(row["layout"]), *told)
    return table


def _yes(value: object) -> str:
    return "yes" if value else "no"
