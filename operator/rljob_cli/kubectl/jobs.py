"""RLJobs, their pods, events and logs behind an API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, cast

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rljob_api.base import GROUP, VERSION, Manifest
from rljob_api.crd import PLURAL
from rljob_operator import names

from ..errors import UserMistake
from .connect import connect
from .log_stream import Excerpt, Response, lines, log_lines
from .refusals import told

FIELD_MANAGER = "kubectl-rljob"
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
IN_TIME = (CONNECT_SECONDS, READ_SECONDS)
BROKEN_WATCH = (ApiException, urllib3.exceptions.HTTPError, json.JSONDecodeError)
"""Refused, cut between two lines, cut within one. Whether the API server answers at all, the next look will tell."""
FOR_EVER = 10 * 365 * 86400.0
"""A followed log may be silent for long."""


class Kind(NamedTuple):
    """Where custom objects of a kind live."""

    group: str
    version: str
    namespace: str
    plural: str


class Jobs:
    """The jobs of one namespace, with the rights of the user's kubeconfig. All methods raise `UserMistake`."""

    def __init__(self, namespace: str | None, context: str | None) -> None:
        default = connect(context)
        self.namespace = namespace or default
        self._options = f" -n {self.namespace}" if self.namespace != default else ""
        self._options += f" --context {context}" if context else ""
        self._core = client.CoreV1Api()
        self._custom = client.CustomObjectsApi()
        self._kind = Kind(GROUP, VERSION, self.namespace, PLURAL)

    def command(self, words: str) -> str:
        """`kubectl rljob WORDS`, as it means the same cluster and namespace."""
        return f"kubectl rljob {words}{self._options}"

    def get(self, name: str) -> Manifest:
        with told(name, self.namespace):
            answer = self._custom.get_namespaced_custom_object(
                *self._kind, name, _preload_content=False, _request_timeout=IN_TIME
            )
            return _plain(answer)

    def names(self) -> list[str]:
        with told("jobs", self.namespace):
            answer = self._custom.list_namespaced_custom_object(
                *self._kind, _preload_content=False, _request_timeout=IN_TIME
            )
            return [job["metadata"]["name"] for job in _items(answer)]

    def create(self, job: Manifest) -> None:
        with told(job["metadata"]["name"], self.namespace):
            self._custom.create_namespaced_custom_object(
                *self._kind,
                job,
                field_manager=FIELD_MANAGER,
                field_validation="Strict",
                _request_timeout=IN_TIME,
            )

    def merge(self, name: str, change: Manifest) -> None:
        """A JSON merge patch."""
        with told(name, self.namespace):
            self._custom.patch_namespaced_custom_object(
                *self._kind, name, change, field_manager=FIELD_MANAGER, _request_timeout=IN_TIME
            )

    def delete(self, name: str) -> None:
        with told(name, self.namespace):
            self._custom.delete_namespaced_custom_object(*self._kind, name, _request_timeout=IN_TIME)

    def changes(self, name: str, timeout: float) -> Iterator[Manifest]:
        """The job now and after each change, until it is deleted, `timeout` seconds passed, or the watch is refused or
        cut: then the caller looks anew."""
        yield (job := self.get(name))
        with suppress(*BROKEN_WATCH):
            answer = self._custom.list_namespaced_custom_object(
                *self._kind,
                field_selector=f"metadata.name={name}",
                resource_version=job["metadata"]["resourceVersion"],
                watch=True,
                timeout_seconds=max(1, int(timeout)),
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, timeout + READ_SECONDS),
            )
            for line in lines(cast("Response", answer)):
                event = json.loads(line)
                if event["type"] in ("DELETED", "ERROR"):  # an error: it began too long ago
                    return
                yield event["object"]

    def pods(self, name: str) -> list[Manifest]:
        selector = names.selector(names.job_labels(name))
        with told(name, self.namespace):
            answer = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=selector,
                _preload_content=False,
                _request_timeout=IN_TIME,
            )
            return _items(answer)

    def events(self, name: str) -> list[Manifest]:
        """Of the job and of its pods, oldest first."""
        mine = self._events(f"involvedObject.name={name},involvedObject.kind=RLJob")
        of_pods = self._events("involvedObject.kind=Pod")
        prefixes = tuple(f"{name}-{role}-" for role in ("trainer", "rollout"))
        found = [*mine, *(one for one in of_pods if one["involvedObject"]["name"].startswith(prefixes))]
        return sorted(found, key=event_time)

    def log(self, pod: str, container: str, excerpt: Excerpt) -> Iterator[str]:
        """Its lines, as they come."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        query = [("container", container), *excerpt.query]
        timeout = (CONNECT_SECONDS, FOR_EVER if excerpt.follow else READ_SECONDS)
        with told(pod, self.namespace):
            yield from log_lines(self._core.api_client, path, query, timeout)

    def _events(self, selector: str) -> list[Manifest]:
        with told("events", self.namespace):
            answer = self._core.list_namespaced_event(
                self.namespace,
                field_selector=selector,
                _preload_content=False,
                _request_timeout=IN_TIME,
            )
            return _items(answer)


def event_time(event: Manifest) -> str:
    """When it was last seen, as text that sorts: the latest that is told, and the finest of the same second."""
    series = event.get("series") or {}
    told = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    seen = [one.rstrip("Z") for one in told if one]  # else a whole second comes after its parts
    return max(seen, default=str(event["metadata"]["creationTimestamp"]).rstrip("Z"))


def _items(answer: object) -> list[Manifest]:
    return cast("list[Manifest]", _plain(answer)["items"])


def _plain(answer: object) -> Manifest:
    """Plain JSON: the client's own models cost more than the request.

    Raises `UserMistake` for the page of something else than an API server.
    """
    try:
        return cast("Manifest", json.loads(cast("Response", answer).data))
    except ValueError as error:
        host = client.Configuration.get_default_copy().host
        raise UserMistake(f"what answers at {host} is no API server; check `kubectl cluster-info`") from error
