"""Requests to the API server: JSON in, JSON out.

Configuration, authentication and TLS are those of the official client; its models and call stack, which cost three
times a request, are passed by.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_incluster_config, load_kube_config

from rljob_api.base import Manifest

from ..metrics import API_REQUESTS

USER_AGENT = "rljob-operator"
CONNECTIONS = 48
"""For requests, not counting watches; more wait. An open one costs 100 KB."""
REQUEST_SECONDS = 20.0
SILENCE_SECONDS = 90.0
"""A watch that shows not even a bookmark for so long is taken for dead."""

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


@dataclass
class ApiError(Exception):
    """The API server's refusal; code 0 when nobody answered."""

    code: int
    reason: str
    """As in metav1.Status."""
    message: str
    retry_after: float | None = None
    """Seconds that the API server asks to wait."""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"


async def configuration(kubeconfig: Path | None) -> Configuration:
    """Of the file, else of the pod we run in, else of the user's own kubeconfig.

    Raises `kubernetes.aio.config.ConfigException`.
    """
    found = Configuration()
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        load_incluster_config(client_configuration=found)
    else:
        file = str(kubeconfig) if kubeconfig else None
        await load_kube_config(config_file=file, client_configuration=found)
    return found


class Client:
    """Use as an async context manager."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._tls = RESTClientObject(configuration).ssl_context
        self._session: aiohttp.ClientSession
        self._streams: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session, self._streams = self._connected(CONNECTIONS), self._connected(0)
        return self

    def _connected(self, limit: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=limit),
            # As Kubernetes' own controllers ask: to pack a list takes longer than to send it within a cluster.
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            proxy=self.configuration.proxy,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._streams.close()

    async def send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Manifest:
        """The answer.

        Raises `ApiError`.
        """
        headers = await self._headers(accept) | {"Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        API_REQUESTS.labels(verb(method, path)).inc()
        try:
            async with self._session.request(
                method, self._url(path), data=data, headers=headers, params=params, timeout=timeout
            ) as response:
                content = await response.read()
                if response.status >= 400:
                    raise _refusal(response, content)
                return dict(json.loads(content))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _no_answer(error) from error

    async def lines(self, path: str, params: Mapping[str, str], accept: str = JSON) -> AsyncIterator[bytes]:
        """What a watch tells, a JSON document a line, until the API server ends it.

        Raises `ApiError`, also when the stream breaks off.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=SILENCE_SECONDS)
        headers = await self._headers(accept)
        API_REQUESTS.labels("WATCH").inc()
        try:
            async with self._streams.get(
                self._url(path), headers=headers, params=params, timeout=timeout
            ) as response:
                if response.status >= 400:
                    raise _refusal(response, await response.read())
                async for line in _split(response.content):
                    yield line
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _no_answer(error) from error

    def _url(self, path: str) -> str:
        return f"{self.configuration.host}{path}"

    async def _headers(self, accept: str) -> dict[str, str]:
        """Asked for each time: tokens are short-lived."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Accept": accept} | ({"Authorization": token} if token else {})


def verb(method: str, path: str) -> str:
    """As RBAC and the API server's own metrics tell a GET of one object from that of all: `GET` and `LIST`."""
    _, root, *rest = path.split("/")
    below = rest[1 if root == "api" else 2 :]
    inside = below[2:] if below[0] == "namespaces" and len(below) > 2 else below
    return "LIST" if method == "GET" and len(inside) == 1 else method


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's own reader refuses long ones."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    after = response.headers.get("Retry-After", "")
    seconds = float(after) if after.isdigit() else None
    try:
        told = dict(json.loads(content))
    except ValueError:  # a proxy's page or plain text
        told = {"message": content.decode(errors="replace")[:500]}
    reason = told.get("reason") or response.reason or ""
    return ApiError(response.status, reason, told.get("message") or "", seconds)


def _no_answer(error: Exception) -> ApiError:
    return ApiError(0, type(error).__name__, str(error) or "no answer from the API server")
