"""`rljob render FILE`: what the operator would create for a job's first attempt, as YAML. Nothing is started."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import Status
from rljob_operator.decide import decide
from rljob_operator.observed import Observed
from rljob_operator.pin import pinned
from rljob_operator.render import render as render_manifests
from rljob_operator.settings import Settings, read_settings

from .document import read_document
from .errors import UserMistake
from .left_behind import left_behind
from .load import parse_job

UID = "00000000-0000-0000-0000-000000000000"
"""A job that was not created has none yet."""
TOKEN = "made when the job is created"


def render(
    file: Annotated[Path, typer.Argument(help="The job file.", show_default=False)],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the job.")] = "default",
    settings: Annotated[
        Path | None, typer.Option(help="The operator's settings, as JSON; without them its defaults.")
    ] = None,
) -> None:
    """Print what the operator would create for the first attempt of a job."""
    document = read_document(file)
    job = parse_job(document)
    for lacking in left_behind(document, job.spec):
        print(f"Warning: {lacking}", file=sys.stderr)
    metadata = job.metadata.model_copy(update={"namespace": namespace, "uid": UID})
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump_all(manifests(job.model_copy(update={"metadata": metadata}), read(settings)), sys.stdout)


def manifests(job: RLJob, settings: Settings) -> list[Manifest]:
    """What two passes of the operator make: the attempt is numbered in the first, its pods come in the second."""
    wanted = job.model_copy(update={"spec": job.spec.model_copy(update={"suspend": False}), "status": None})
    now = time.time()
    attempt = pinned(wanted, decide(wanted, Observed(), now), settings.job_defaults).begin
    begun = wanted.model_copy(update={"status": Status(attempt=attempt)})
    return render_manifests(begun, decide(begun, Observed(), now), TOKEN, settings)


def read(settings: Path | None) -> Settings:
    """Raises `UserMistake`."""
    try:
        return read_settings(settings)
    except OSError as error:
        raise UserMistake(
            f"{settings}: {error.strerror}; name a file with the operator's settings"
        ) from error
    except UnicodeDecodeError as error:
        raise UserMistake(f"{settings}: not a text file in UTF-8: {error.reason}") from error
    except ValidationError as error:
        raise UserMistake("\n".join(f"{settings}: {_said(one)}" for one in error.errors())) from error


def _said(mistake: ErrorDetails) -> str:
    place = ".".join(map(str, mistake["loc"]))
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]
