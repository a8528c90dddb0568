"""HTTP probes of a local pod, as a kubelet makes them: when one is due, and what its results come to."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, replace

from rljob_api.base import Manifest


@dataclass(frozen=True)
class Probe:
    """One probe of a manifest, and the results so far."""

    path: str
    port: int
    period: float
    timeout: float
    failure_threshold: int
    due: float
    """When to ask next, by the monotonic clock."""
    failures: int = 0
    """In a row."""
    passing: bool = False

    @property
    def failed(self) -> bool:
        return self.failures >= self.failure_threshold

    def after(self, answered: bool, now: float) -> Probe:
        """The probe with one more result."""
        failures = 0 if answered else self.failures + 1
        passing = answered or (self.passing and failures < self.failure_threshold)
        return replace(self, failures=failures, passing=passing, due=now + self.period)


def probe(container: Manifest, kind: str, now: float) -> Probe | None:
    """The container's `startupProbe`, `readinessProbe` or `livenessProbe`; None without one."""
    spec = container.get(kind)
    if spec is None:
        return None
    return Probe(
        path=spec["httpGet"]["path"],
        port=spec["httpGet"]["port"],
        period=spec.get("periodSeconds", 10),
        timeout=spec.get("timeoutSeconds", 1),
        failure_threshold=spec.get("failureThreshold", 3),
        due=now,
    )


def get(address: str, port: int, path: str, timeout: float) -> bytes | None:
    """The body of a 2xx or 3xx answer; None for anything else. No proxy is ever asked."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if 200 <= answer.status < 400 else None


@dataclass(frozen=True)
class Health:
    """The three probes of one pod. Liveness and readiness count only once the startup probe has passed."""

    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None

    @property
    def started(self) -> bool:
        return self.startup is None or self.startup.passing

    @property
    def ready(self) -> bool:
        return self.started and (self.readiness is None or self.readiness.passing)

    @property
    def dead(self) -> str:
        """Why the pod must be killed, as a sentence, or nothing."""
        if not self.started:
            return _silence("startup", self.startup)
        return _silence("liveness", self.liveness)

    @property
    def next_due(self) -> float:
        waiting = [self.startup] if not self.started else [self.readiness, self.liveness]
        return min((one.due for one in waiting if one), default=float("inf"))

    def look(self, address: str, now: float) -> Health:
        """Make the probes that are due."""
        if not self.started:
            return replace(self, startup=_ask(self.startup, address, now))
        return replace(
            self, readiness=_ask(self.readiness, address, now), liveness=_ask(self.liveness, address, now)
        )


def health(container: Manifest, now: float) -> Health:
    return Health(*(probe(container, f"{kind}Probe", now) for kind in ("startup", "readiness", "liveness")))


def _ask(one: Probe | None, address: str, now: float) -> Probe | None:
    if one is None or now < one.due:
        return one
    return one.after(get(address, one.port, one.path, one.timeout) is not None, now)


def _silence(kind: str, one: Probe | None) -> str:
    if one is None or not one.failed:
        return ""
    return f"{kind} probe {one.path} on port {one.port} failed {one.failures} times in a row"
