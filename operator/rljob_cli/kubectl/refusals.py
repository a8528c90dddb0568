"""What the API server, or the way to it, refused: as a sentence that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rljob_api.base import Manifest

from ..errors import UserMistake


class Absent(UserMistake):
    """The object that was asked for is not there."""


class Unreachable(UserMistake):
    """Nobody answered, or the answer was cut."""


@contextmanager
def told(name: str, namespace: str) -> Iterator[None]:
    """`name`: the object that the request inside is about. Raises `UserMistake`."""
    try:
        yield
    except ApiException as refusal:
        kind = Absent if _is_absent(refusal) else UserMistake
        raise kind(sentence(name, namespace, refusal)) from refusal
    except urllib3.exceptions.HTTPError as error:
        host = client.Configuration.get_default_copy().host
        raise Unreachable(
            f"cannot reach the API server at {host}: {_reason(error)}; check `kubectl cluster-info`"
        ) from error


def sentence(name: str, namespace: str, refusal: ApiException) -> str:
    message = _message(refusal)
    match refusal.status:
        case 404:
            return _absence(name, namespace, refusal)
        case 409:
            return (
                f"`{name}` is already there in namespace {namespace}; "
                "delete it first, or change it with `kubectl apply`"
            )
        case 401:
            return f"the API server does not know you: {message}; check `kubectl auth whoami`"
        case 403:
            return (
                f"not allowed: {message}; ask an administrator for the role `edit` in namespace {namespace}"
            )
        case _:
            return f"the API server answered {refusal.status}: {message}"


def _absence(name: str, namespace: str, refusal: ApiException) -> str:
    if _kind(refusal) == "namespaces":
        return f"there is no namespace {namespace}; create it, or name another one with -n"
    if _is_absent(refusal):
        return f"there is no `{name}` in namespace {namespace}; see `kubectl get rljobs -A`"
    return "this cluster does not know RLJobs: install the chart first (`helm install`, see the README)"


def _is_absent(refusal: ApiException) -> bool:
    """Whether the object is missing, and not its kind."""
    message = _message(refusal)
    unknown_kind = "the requested resource" in message or "page not found" in message
    return refusal.status == 404 and not unknown_kind


def _message(refusal: ApiException) -> str:
    """The sentence of the API server's Status object, else the line that came; a proxy's page is none."""
    try:
        return str(_status(refusal)["message"])
    except KeyError:
        line = str(refusal.body or "").strip()
        return line if line and "\n" not in line else str(refusal.reason).replace("\n", ": ")


def _kind(refusal: ApiException) -> str:
    """Of what the refusal is about; only who makes something in a namespace is told that there is none."""
    return str((_status(refusal).get("details") or {}).get("kind"))


def _status(refusal: ApiException) -> Manifest:
    """The API server's Status object; empty if something else came."""
    try:
        found = json.loads(refusal.body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    inner = getattr(error, "reason", None) or error
    return str(inner).rpartition(": ")[2] or type(inner).__name__
