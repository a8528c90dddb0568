"""A client of an API server, as small as the tests need it: JSON in, JSON out."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import urllib3
import yaml

Manifest = dict[str, Any]


class Answer(NamedTuple):
    """Status code and body."""

    code: int
    body: Manifest

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Api:
    """An API server and who we are to it."""

    url: str
    tls: ssl.SSLContext | None
    token: str
    kubeconfig: Path
    """For other clients, to be the same user there."""

    @classmethod
    def of(cls, kubeconfig: Path) -> Api:
        """The API server of a kubeconfig that `identities.py` wrote. kubectl may have written it anew, as YAML."""
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(cluster["server"], ssl.create_default_context(cadata=authority), user["token"], kubeconfig)

    def get(self, path: str, accept: str = "application/json") -> Answer:
        return self.send("GET", path, accept=accept)

    def post(self, path: str, body: Manifest) -> Answer:
        return self.send("POST", path, body)

    def put(self, path: str, body: Manifest) -> Answer:
        return self.send("PUT", path, body)

    def merge(self, path: str, body: Manifest) -> Answer:
        return self.send("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, path: str) -> Answer:
        return self.send("DELETE", path)

    def send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """Send one request; an answer of any status code is an answer.

        Raises `OSError` when nobody answers.
        """
        headers = {"Accept": accept, "Content-Type": content_type, "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body)
        try:
            answer = self._pool.request(method, self.url + path, body=data, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"{method} {path}: {error}") from error
        return Answer(answer.status, _json(answer.data))

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        """Connections are kept: tests look again and again, and a handshake costs more than an answer."""
        return urllib3.PoolManager(maxsize=32, ssl_context=self.tls, retries=False, timeout=300)


def _json(body: bytes) -> Manifest:
    """The body as an object; probes answer with a text."""
    try:
        return dict(json.loads(body))
    except ValueError:
        return {"message": body.decode(errors="replace")}
