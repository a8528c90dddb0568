"""The test plays scheduler and kubelet: it places pods, says how they fare, and lets them go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from builders import last_words
from kube.api import Answer, Api, Manifest
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import PODS
from waiting import until


@dataclass
class Kubelet:
    api: Api
    namespace: str

    def run(self, *names: str, address: str = "127.0.0.1") -> None:
        """Placed, running and ready."""
        for name in names:
            self.place(name)
            self.say(
                name,
                phase="Running",
                podIP=address,
                podIPs=[{"ip": address}],
                startTime=now(),
                conditions=[{"type": "Ready", "status": "True"}],
                containerStatuses=[container({"running": {"startedAt": now()}})],
            )

    def place(self, name: str) -> None:
        """On a node; from now on its deletion is graceful."""
        body: Manifest = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"kind": "Node", "name": "node0"},
        }
        answer = self.api.post(PODS.path(self.namespace, name, "binding"), body)
        assert answer.code in (201, 409), answer.message

    def end(self, name: str, ending: Ending = Ending.COMPLETE, exit_code: int = 0, **words: Any) -> None:
        """It said its last words."""
        self.say(name, **ended(name, ending, exit_code, **words))

    def say(self, name: str, **status: Any) -> None:
        answer = self.tell(name, status)
        assert answer.code == 200, answer.message

    def tell(self, name: str, status: Manifest) -> Answer:
        return self.api.merge(PODS.path(self.namespace, name, "status"), {"status": status})

    def reap(self, ending: Ending = Ending.PREEMPTED, exit_code: int = 143) -> list[str]:
        """Let those go that were asked to; their names. Another thread may remove one meanwhile."""
        pods = self.api.get(PODS.path(self.namespace)).body["items"]
        going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
        for pod in going:
            name = pod["metadata"]["name"]
            if pod["status"]["phase"] == "Running":
                assert self.tell(name, ended(name, ending, exit_code)).code in (200, 404)
            self.remove(name)
        return [pod["metadata"]["name"] for pod in going]

    def reap_all(self, *names: str) -> None:
        """Waits until all of these were asked to go, and lets them."""
        gone: set[str] = set()

        def reaped() -> bool:
            gone.update(self.reap())
            return gone >= set(names)

        until(reaped, lambda: f"{names} are asked to go; so far {gone}")

    def remove(self, name: str) -> None:
        """At once, without a word."""
        answer = self.api.send("DELETE", PODS.path(self.namespace, name), {"gracePeriodSeconds": 0})
        assert answer.code in (200, 404), answer.message


def ended(name: str, ending: Ending, exit_code: int, **words: Any) -> Manifest:
    """The status of a pod that said its last words."""
    role = "trainer" if "-trainer-" in name else "rollout"
    said = last_words(ending, exit_code=exit_code, **words).model_copy(update={"role": role})
    end = {"exitCode": exit_code, "message": said.model_dump_json(by_alias=True), "finishedAt": now()}
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [container({"terminated": {"reason": "Error", **end}})],
    }


def container(state: Manifest) -> Manifest:
    return {
        "name": "main",
        "image": "image",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
