"""Watches every change of the API server in memory, and the operator's log, for what must never be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from invariants import Invariant, Record
from kube.api import Manifest
from rljob_operator.names import CONTROL_TOKEN_ENV, LABEL_ATTEMPT, LABEL_INDEX, LABEL_NAME, LABEL_ROLE

from .memory_api import OVER, Change, MemoryApi


@dataclass
class Judge(Record):
    api: MemoryApi = field(kw_only=True)
    _attempts: dict[str, int] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    """Which Secret each pod that ran had its token from; both by UID."""

    def __post_init__(self) -> None:
        self.api.on_change.append(self._judge)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """To what the operator logs as an error, which is a mistake in the operator."""
        log, listener = logging.getLogger("rljob_operator"), _Errors(self)
        log.addHandler(listener)
        try:
            yield
        finally:
            log.removeHandler(listener)

    def _judge(self, change: Change) -> None:
        match change.plural:
            case "pods":
                self._judge_pod(change)
            case "persistentvolumeclaims" if change.type == "DELETED":
                self.note(Invariant.CHECKPOINTS_STAY, change.object["metadata"]["name"])
            case "rljobs":
                self._judge_attempt(change.object)
            case _:
                pass

    def _judge_pod(self, change: Change) -> None:
        if change.type == "ADDED":
            self._judge_attempt_of(change.object)
            self._judge_twins(change.object)
        if change.object["status"]["phase"] == "Running":
            self._judge_gang(change.object)
            self._judge_token(change.object)

    def _judge_attempt_of(self, pod: Manifest) -> None:
        if int(label(pod, LABEL_ATTEMPT)) > self._attempts.get(owner(pod), 0):
            self.note(Invariant.ATTEMPTS_ARE_WRITTEN_FIRST, pod["metadata"]["name"])

    def _judge_twins(self, pod: Manifest) -> None:
        same: tuple[str, ...] = (LABEL_NAME, LABEL_ROLE, LABEL_INDEX)
        if label(pod, LABEL_ROLE) == "trainer":
            same = (*same, LABEL_ATTEMPT)
        twins = [one["metadata"]["name"] for one in self._like(pod, same) if lives(one)]
        if len(twins) > 1:
            self.note(Invariant.ONE_LIVE_POD, str(twins))

    def _judge_gang(self, pod: Manifest) -> None:
        if label(pod, LABEL_ROLE) != "trainer":
            return
        gang = [one for one in self._like(pod, (LABEL_NAME, LABEL_ROLE)) if runs(one)]
        if len({label(one, LABEL_ATTEMPT) for one in gang}) > 1:
            self.note(Invariant.ONE_ATTEMPT_TRAINS, str([one["metadata"]["name"] for one in gang]))

    def _judge_token(self, pod: Manifest) -> None:
        """A container has in its environment what stood in the Secret when it began."""
        self._tokens.setdefault(pod["metadata"]["uid"], self._secret_of(pod))
        running = [one["metadata"]["uid"] for one in self._like(pod, (LABEL_NAME,)) if runs(one)]
        if len({self._tokens[uid] for uid in running if uid in self._tokens}) > 1:
            self.note(Invariant.ONE_TOKEN, pod["metadata"]["name"])

    def _secret_of(self, pod: Manifest) -> str:
        found = (one for one in self.api.all("secrets") if one["metadata"]["name"] == secret_name(pod))
        return next((str(one["metadata"]["uid"]) for one in found), "")

    def _judge_attempt(self, job: Manifest) -> None:
        number = (job.get("status", {}).get("attempt") or {}).get("number", 0)
        uid = job["metadata"]["uid"]
        if number < self._attempts.get(uid, 0):
            self.note(Invariant.ATTEMPTS_RISE, f"from {self._attempts[uid]} to {number}")
        self._attempts[uid] = number

    def _like(self, pod: Manifest, same: tuple[str, ...]) -> list[Manifest]:
        """Pods of the same job with the same labels of these, itself too."""
        wanted = [label(pod, key) for key in same]
        return [
            one
            for one in self.api.all("pods")
            if owner(one) == owner(pod) and [label(one, key) for key in same] == wanted
        ]


class _Errors(logging.Handler):
    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.ERROR)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._judge.note(Invariant.KNOWN_ERRORS, f"{record.getMessage()}: {error!r}")


def secret_name(pod: Manifest) -> str:
    """Of the one that its token comes from."""
    env = {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}
    return str(env[CONTROL_TOKEN_ENV]["valueFrom"]["secretKeyRef"]["name"])


def lives(pod: Manifest) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] not in OVER


def runs(pod: Manifest) -> bool:
    return bool(pod["status"]["phase"] == "Running")


def label(one: Manifest, key: str) -> str:
    return str(one["metadata"]["labels"].get(key, ""))


def owner(one: Manifest) -> str:
    return str(one["metadata"]["ownerReferences"][0]["uid"])
