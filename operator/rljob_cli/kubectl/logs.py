"""`kubectl rljob logs JOB`: what all pods of a job said, each line after its pod's name.

An init container's lines carry its name as well.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_operator import names

from ..errors import UserMistake
from .jobs import Jobs
from .options import Context, Name, Namespace
from .wait import verdict

LOOK_SECONDS = 2.0
"""Pause between two looks for new pods."""


@dataclass(frozen=True)
class Log:
    """What one container of a pod says."""

    pod: str
    container: str
    before: bool
    """It is an init container."""

    @property
    def label(self) -> str:
        return f"{self.pod} {self.container}" if self.before else self.pod


def logs(
    job: Name,
    *,
    role: Annotated[str, typer.Option(help="Only trainer, or only rollout.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    tail: Annotated[int, typer.Option(help="So many last lines of each pod.", min=0)] = 20,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show what a job's pods said."""
    jobs = Jobs(namespace, context)
    jobs.get(job)
    chosen = started(jobs.pods(job), role)
    if not chosen and not follow:
        raise UserMistake(f"no pod of {job} has started yet; see `kubectl rljob status {job}`")
    if follow:
        _follow(jobs, job, role, tail)
        return
    for log in chosen:
        _print_log(jobs, log, follow=False, tail=tail)


def started(pods: list[Manifest], role: str) -> list[Log]:
    """Containers that ran at least once: trainers' first, and in a pod in their order."""
    found = [pod for pod in pods if role in ("", pod["metadata"]["labels"].get(names.LABEL_ROLE))]
    return [log for pod in sorted(found, key=_trainers_first) for log in _of_pod(pod)]


def _of_pod(pod: Manifest) -> Iterator[Log]:
    for kind, before in (("initContainerStatuses", True), ("containerStatuses", False)):
        for container in pod["status"].get(kind, []):
            if _ran(container):
                yield Log(pod["metadata"]["name"], container["name"], before)


def _trainers_first(pod: Manifest) -> tuple[bool, str]:
    return pod["metadata"]["labels"][names.LABEL_ROLE] != RoleName.TRAINER, pod["metadata"]["name"]


def _ran(container: Manifest) -> bool:
    return "running" in container["state"] or "terminated" in container["state"]


def _follow(jobs: Jobs, job: str, role: str, tail: int) -> None:
    """A thread per container; those that come later are followed from their first line."""
    threads: dict[Log, threading.Thread] = {}
    first = True
    while True:
        over = verdict(jobs.get(job)) is not None
        for log in started(jobs.pods(job), role):
            if log not in threads:
                lines = tail if first else None
                threads[log] = threading.Thread(
                    target=_print_log, args=(jobs, log), kwargs={"follow": True, "tail": lines}, daemon=True
                )
                threads[log].start()
        if over:
            break
        first = False
        time.sleep(LOOK_SECONDS)
    for thread in threads.values():
        thread.join(LOOK_SECONDS)


def _print_log(jobs: Jobs, log: Log, *, follow: bool, tail: int | None) -> None:
    try:
        for line in jobs.log(log.pod, log.container, follow=follow, tail=tail):
            sys.stdout.write(f"[{log.label}] {line}\n")
            sys.stdout.flush()
    except UserMistake as gone:  # deleted between the look and the read
        print(f"[{log.label}] {gone}", file=sys.stderr)
