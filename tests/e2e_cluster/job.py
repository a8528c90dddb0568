"""An RLJob on a real cluster, as its user sees it, and the pods behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import builders
from kube.api import Manifest
from kube.cluster import Cluster
from kube.processes import Failure
from rljob_api.base import GROUP

NAMESPACE = "default"
JOBS = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/rljobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POLL_S = 0.2
WITHIN_S = 600
"""On two busy cores vLLM takes a minute or more to start."""


def addition(name: str, max_steps: int, **changes: Any) -> Manifest:
    """Two ranks and a server, which saves often and restarts at once."""
    own: Manifest = {
        "checkpoint": {"savePeriod": 5, "storage": {"size": "1Gi"}},
        "failurePolicy": {"backoffSeconds": {"initial": 0, "max": 0}},
    }
    return builders.addition(name, max_steps, **own | changes)


@dataclass(frozen=True)
class Job:
    """A job that was applied."""

    cluster: Cluster
    name: str

    def get(self) -> Manifest:
        return self.cluster.api.get(f"{JOBS}/{self.name}").body

    def status(self) -> Manifest:
        return dict(self.get().get("status", {}))

    def step(self) -> int:
        """The last finished step that the status tells of."""
        return int(self.status().get("progress", {}).get("step", 0))

    def attempt(self) -> int:
        return int((self.status().get("attempt") or {}).get("number", 0))

    def is_(self, condition: str) -> bool:
        found = [each for each in self.status().get("conditions", []) if each["type"] == condition]
        return bool(found) and found[0]["status"] == "True"

    def pods(self, role: str = "") -> dict[str, Manifest]:
        """The job's pods by name."""
        selector = f"{GROUP}/name={self.name}" + (f",{GROUP}/role={role}" if role else "")
        listed = self.cluster.api.get(f"{PODS}?labelSelector={selector}").body
        return {pod["metadata"]["name"]: pod for pod in listed["items"]}

    def wait_for(self, happens: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
        """Return once it `happens`; `what` says so in words.

        Raises `AssertionError`, with what a user would look at, when it does not or the job fails.
        """
        deadline = time.monotonic() + within_s
        while not happens():
            failed = self.is_("Failed")
            assert not failed, f"the job failed before this: {what}\n{self.story()}"
            assert time.monotonic() < deadline, f"not so within {within_s} s: {what}\n{self.story()}"
            time.sleep(POLL_S)

    def story(self) -> str:
        """What a user would look at when something is wrong."""
        parts = [
            json.dumps(self.status(), indent=1),
            self._said("get", "pods", "-o", "wide"),
            self._said("get", "events"),
        ]
        for pod in self.pods():
            parts += [
                f"--- {pod}",
                self._said("logs", pod, "--tail=40"),
                self._said("describe", "pod", pod)[-1500:],
            ]
        return "\n".join(parts)

    def _said(self, *arguments: str) -> str:
        try:
            return self.cluster.kubectl("--namespace", NAMESPACE, *arguments)
        except Failure as failure:
            return str(failure)
