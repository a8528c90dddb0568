"""Reads the log of a container from an API server, line by line. `jobs.py` calls it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, cast

from kubernetes import client
from kubernetes.client.exceptions import ApiException


class Excerpt(NamedTuple):
    """Which lines of a log."""

    tail: int | None = None
    """So many last ones."""
    since: str | None = None
    """From this time on, in whole seconds: a kubelet is told no fractions."""
    follow: bool = False
    """Go on as it grows, until the container ends; then each line begins with its time."""

    @property
    def query(self) -> list[tuple[str, str]]:
        words = {
            "tailLines": None if self.tail is None else str(self.tail),
            "sinceTime": self.since,
            "follow": "true" if self.follow else None,
            "timestamps": "true" if self.follow else None,
        }
        return [(name, word) for name, word in words.items() if word is not None]


class Response(Protocol):
    """The part of urllib3's response that is read here."""

    data: bytes

    def stream(self) -> Iterator[bytes]: ...


def log_lines(
    api: client.ApiClient, path: str, query: list[tuple[str, str]], timeout: tuple[float, float]
) -> Iterator[str]:
    """Raises `ApiException` and urllib3's errors. The client's own method knows no `sinceTime`."""
    request = api.param_serialize("GET", path, query_params=query, auth_settings=["BearerToken"])
    answer = api.call_api(*request, _request_timeout=timeout)
    if not 200 <= answer.status <= 299:  # 204: of a pod that has no node yet
        answer.read()
        raise ApiException(http_resp=answer)
    yield from lines(cast("Response", answer.response))


def lines(answer: Response) -> Iterator[str]:
    """As they come. A line that is cut off in the middle by an error is left out."""
    rest = b""
    for chunk in answer.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
