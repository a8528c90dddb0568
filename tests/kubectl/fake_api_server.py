"""A stand-in for what `kubectl rljob` asks of an API server, where a real one will not do: without nodes that one has
no logs, and it cuts no connection when a test wants it.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.status import ConditionType
from rljob_operator import names, times

JOB = "demo"


class Asked(NamedTuple):
    """One reading of a log."""

    pod: str
    container: str
    tail: str
    """Empty: from the first line."""
    since: str
    """Empty: from the first line."""


class FakeLog:
    """Grows while a test writes to it. Three lines come in each second of its own clock."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._ended, self._cuts = False, 0
        self._changed = threading.Condition()

    def write(self, *lines: str | None) -> None:
        """None ends it."""
        with self._changed:
            self._lines += [line for line in lines if line is not None]
            self._ended = self._ended or None in lines
            self._changed.notify_all()

    def cut(self) -> None:
        """Whoever reads it is cut off."""
        with self._changed:
            self._cuts += 1
            self._changed.notify_all()

    def read(self, query: dict[str, str]) -> Iterator[str | None]:
        """As a kubelet: with times if asked, from a whole second on; None where it is cut."""
        since = times.to_seconds(query["sinceTime"]) if "sinceTime" in query else 0.0
        cuts, position, goes_on = self._cuts, 0, True
        while goes_on:
            fresh, goes_on = self._news(position, cuts)
            for number, line in enumerate(fresh, position):
                if number // 3 >= since:
                    time = times.to_text(number // 3)[:-1] + f".{number % 3}00000000Z"
                    yield f"{time} {line}" if "timestamps" in query else line
            position += len(fresh)
        if self._cuts > cuts:
            yield None

    def _news(self, position: int, cuts: int) -> tuple[list[str], bool]:
        """Lines from there on as soon as there are some, and whether the reading goes on."""
        with self._changed:
            self._changed.wait_for(lambda: self._cuts > cuts or self._ended or len(self._lines) > position)
            return self._lines[position:], self._cuts == cuts and not self._ended


@dataclass
class FakeApiServer:
    """One job, and the logs of its pods, which grow while the test writes to them."""

    pods: list[Manifest] = field(default_factory=list)
    logs: dict[str, FakeLog] = field(default_factory=dict)
    """By pod."""
    over: ConditionType | None = None
    phase: str = "Training"
    """Empty: no operator has written a status."""
    created: float = 0.0
    spec: Manifest = field(default_factory=dict)
    deleted: bool = False
    asked: list[Asked] = field(default_factory=list)
    watches: list[queue.Queue[bool]] = field(default_factory=list)
    """Each watch there was; True tells of a change, False cuts it in the middle of a line."""
    refusals: int = 0
    """So many of the next looks at the job are answered with 503."""

    def start(self, role: RoleName, index: int) -> str:
        """A pod that runs; its name."""
        name = f"{JOB}-{role.value}-{index}"
        self.logs[name] = FakeLog()
        state: Manifest = {"name": role.value, "state": {"running": {}}}
        meta = {"name": name, "labels": names.pod_labels(JOB, role, index, 1)}
        self.pods.append({"metadata": meta, "status": {"containerStatuses": [state]}})
        return name

    def say(self, pod: str, *lines: str | None) -> None:
        """None ends its log."""
        self.logs[pod].write(*lines)

    def finish(self, how: ConditionType) -> None:
        self.over = how
        for watch in self.watches:
            watch.put(True)

    def job(self) -> Manifest:
        told = [{"type": self.over, "status": "True", "reason": "Because"}] if self.over else []
        born = {"namespace": "default", "creationTimestamp": times.to_text(self.created)}
        status = {"status": {"phase": self.phase, "conditions": told}} if self.phase else {}
        return {"metadata": {"name": JOB, "resourceVersion": "7", **born}, "spec": self.spec, **status}


@contextmanager
def served(api: FakeApiServer, folder: Path) -> Iterator[Path]:
    """While the block runs, `api` answers at the server of the kubeconfig that is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield _kubeconfig(folder, server.server_port)
    finally:
        for log in api.logs.values():
            log.write(None)
        for watch in api.watches:
            watch.put(False)
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(api: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(url.query).items()}
            match url.path.split("/"):
                case [*_, "rljobs"]:
                    self._watch(float(query["timeoutSeconds"]))
                case [*_, "rljobs", str()] if api.refusals:
                    api.refusals -= 1
                    self._answer(json.dumps({"message": "not now"}), 503)
                case [*_, "rljobs", str()] if not api.deleted:
                    self._answer(json.dumps(api.job()))
                case [*_, "pods"]:
                    self._answer(json.dumps({"items": api.pods}))
                case [*_, "pods", pod, "log"] if pod in api.logs:
                    self._log(pod, query)
                case _:
                    self._answer(json.dumps({"message": "not found"}), 404)

        def do_PATCH(self) -> None:
            length = int(self.headers["Content-Length"])
            api.spec |= json.loads(self.rfile.read(length))["spec"]
            self._answer(json.dumps(api.job()))

        def _answer(self, text: str, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def _watch(self, seconds: float) -> None:
            """One in which so long nothing changed ends."""
            watch: queue.Queue[bool] = queue.Queue()
            self._open()
            api.watches.append(watch)
            try:
                while watch.get(timeout=seconds):
                    self._chunk(json.dumps({"type": "MODIFIED", "object": api.job()}).encode() + b"\n")
            except queue.Empty:
                self._chunk(b"")
                return
            self._chunk(b'{"type": "MODI')
            self._reset()

        def _reset(self) -> None:
            """Ends the connection as a load balancer does."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def _open(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()

        def _log(self, pod: str, query: dict[str, str]) -> None:
            api.asked.append(
                Asked(pod, query["container"], query.get("tailLines", ""), query.get("sinceTime", ""))
            )
            self._open()
            for line in api.logs[pod].read(query):
                if line is None:
                    self._chunk(b"1970-01-01T00:00:09.000000000Z half a li")
                    self._reset()
                    return
                self._chunk(f"{line}\n".encode())
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library names it
            """Says nothing of each request."""

    return Handler


def _kubeconfig(folder: Path, port: int) -> Path:
    config = {
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "x"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    return folder / "config"
