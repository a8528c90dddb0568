"""An RLJob on a real cluster, as its user sees it, and the pods behind it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import builders
from e2e.volume import Volume
from kube.api import Answer, Manifest
from kube.cluster import Cluster
from kube.pods import NOBODY
from kube.processes import Command, Failure, run
from kube.storage import VOLUMES
from rljob_api.base import GROUP
from rljob_operator import names
from shell.places import condition
from waiting import until

NAMESPACE = "default"
JOBS = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/rljobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
CLAIMS = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
BUILTIN = "builtin:addition"
POLL_S = 0.5
ENDED = ("Succeeded", "Failed")
ANSWERS = (200, 404)
WITHIN_S = 1200
"""On two busy cores vLLM takes a minute or more to start."""


def addition(name: str, max_steps: int, **changes: Any) -> Manifest:
    """Two ranks and a server, which saves often and restarts at once."""
    own: Manifest = {
        "checkpoint": {
            "savePeriod": 5,
            "storage": {"size": "512Mi"},
            "onPreemption": {"gracePeriodSeconds": 60},
        },
        "failurePolicy": {"backoffSeconds": {"initial": 0, "max": 0}},
    }
    return builders.addition(name, max_steps, **own | changes)


UNPRIVILEGED: Manifest = {
    "securityContext": NOBODY | {"seccompProfile": {"type": "RuntimeDefault"}},
    "container": {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
}
"""Of a pod beside those of jobs: their namespace demands it."""

PATIENT_REWARD: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "patient"},
    "data": {
        "patient.py": """\
import time

last = None

def score(prompt, completion, answer, item):
    global last
    if prompt == last:  # another answer to it: no evaluation, which asks two thousand prompts once each
        time.sleep(0.02)
    last = prompt
    return float(completion.strip() == answer.strip())
"""
    },
}
"""A second of each step in which nothing computes: a job that trains beside all tests would take the machine."""

HOSTNAME = "kubernetes.io/hostname"
TRAINERS_NODE = "node1"
"""Where trainers are put while it is there."""


def spread(name: str, max_steps: int) -> Manifest:
    """A job with a server on each of two nodes, and its trainer where it can be drained.

    On megatron, which does in a cluster all that dtensor does, and has its model converted by an init container first.
    It also does what the dashboards show: validate, before its first step and seldom after it, and hold the policy by a
    KL penalty. Its checkpoints load under another layout. It is scored by `PATIENT_REWARD`.
    """
    data = {"train": {"source": BUILTIN}, "validation": {"source": BUILTIN}}
    job = addition(name, max_steps, data=data, backend="megatron", parallelism={"tensor": 2})
    spec = job["spec"]
    spec["algorithm"]["grpo"] |= {"validationPeriod": 50, "klPenalty": 0.01}
    spec["checkpoint"]["optimizerSharding"] = "FullyReshardable"
    reward = {"module": "patient", "function": "score", "configMapRef": PATIENT_REWARD["metadata"]}
    spec["reward"] = {"python": reward}
    liked: Manifest = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [TRAINERS_NODE]}]}
    here = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": liked}]}
    soon = [
        {
            "key": f"node.kubernetes.io/{trouble}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 1,
        }
        for trouble in ("not-ready", "unreachable")
    ]
    spec["trainer"] |= {"template": {"spec": {"affinity": {"nodeAffinity": here}, "tolerations": soon}}}
    even = {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"}
    spec["rollout"] |= {"replicas": 2, "template": {"spec": {"topologySpreadConstraints": [even]}}}
    return job


@dataclass(frozen=True)
class Job:
    """A job that was applied."""

    cluster: Cluster
    name: str

    def get(self) -> Manifest:
        """Empty once it was deleted."""
        answer = self._read(f"{JOBS}/{self.name}")
        return answer.body if answer.code == 200 else {}

    def status(self) -> Manifest:
        return dict(self.get().get("status", {}))

    def _read(self, path: str) -> Answer:
        """An API server that has just come back may first answer that it cannot: then it is asked again."""
        answers: list[Answer] = []

        def is_answered() -> bool:
            answers.append(self.cluster.api.get(path))
            return answers[-1].code in ANSWERS

        until(is_answered, lambda: f"{path} is read: {answers[-1].message}")
        return answers[-1]

    def phase(self) -> str:
        return str(self.status().get("phase", ""))

    def step(self) -> int:
        """The last finished step that the status tells of."""
        return int(self.status().get("progress", {}).get("step", 0))

    def goes_on(self, after: int | None = None, what: str = "steps go on") -> None:
        """Wait until some steps more are done than `after`, or than there are now."""
        begin = self.step() if after is None else after
        self.wait_for(lambda: self.step() > begin + 2, what)

    def trained(self) -> int:
        """The last finished step as rank 0 itself tells it."""
        return self.asking()()

    def asking(self) -> Callable[[], int]:
        """What asks rank 0 itself for its last finished step, from beside it on its node, without the API server."""
        code = f"import urllib.request as r; print(r.urlopen({self.progress_url()!r}, timeout=300).read().decode())"
        node = self.nodes("trainer")[self.trainer()]
        run = partial(self.cluster.run, sys.executable, "-c", code, node=node)
        return lambda: int(json.loads(run())["step"])

    def progress_url(self) -> str:
        """Where rank 0 tells, for who is on its node."""
        address = self.pods()[self.trainer()]["status"]["podIP"]
        return f"http://{address}:{names.PROGRESS_PORT}{names.PROGRESS_URL_PATH}"

    def volume(self) -> Path:
        """What is mounted for its claim, as the cluster sees it."""
        claim = self.cluster.api.get(f"{CLAIMS}/{names.claim(self.name)}").body
        volume = self.cluster.api.get(f"{VOLUMES}/{claim['spec']['volumeName']}").body
        return self.cluster.from_outside(Path(volume["spec"]["hostPath"]["path"]))

    def left(self) -> Volume:
        """What it has left there so far."""
        return Volume(self.volume() / Path(names.job_path(self.name)).relative_to(names.CLAIM_PATH))

    def rollout(self) -> Manifest:
        """What the status says of the servers."""
        return dict(self.status().get("rollout", {}))

    def attempt(self) -> int:
        return int((self.status().get("attempt") or {}).get("number", 0))

    def is_back(self, after: int) -> bool:
        """Whether a later attempt trains than that one."""
        return self.attempt() > after and self.last_attempt().get("fromStep") is not None

    def is_whole(self) -> bool:
        """Whether the present attempt trains beside two servers that are ready."""
        return self.last_attempt().get("fromStep") is not None and self.ready() == "2/2"

    def last_attempt(self) -> dict[str, int]:
        """What the status says of the present attempt."""
        return dict(self.status()["attempt"])

    def saved(self) -> int:
        """Step of the newest checkpoint."""
        return int((self.status().get("checkpoint", {}).get("latest") or {}).get("step", 0))

    def ready(self) -> str:
        """Servers that are ready, of how many, for example `1/2`."""
        return str(self.rollout().get("ready", ""))

    def condition(self, kind: str) -> Manifest:
        return condition(self.status(), kind)

    def is_(self, condition: str) -> bool:
        return self.condition(condition).get("status") == "True"

    def told(self, condition: str, reason: str) -> str:
        """What the condition says once that is its reason."""
        found: Manifest = {}

        def is_told() -> bool:
            found.update(self.condition(condition))
            return found.get("reason") == reason

        self.wait_for(is_told, f"{condition} because of {reason}")
        return str(found["message"])

    def edit(self, spec: Manifest) -> None:
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "rljob", self.name, "--type=merge", "--patch", patch)

    def pods(self, role: str = "") -> dict[str, Manifest]:
        """The job's pods by name."""
        selector = f"{GROUP}/name={self.name}" + (f",{GROUP}/role={role}" if role else "")
        listed = self._read(f"{PODS}?labelSelector={selector}").body
        return {pod["metadata"]["name"]: pod for pod in listed["items"]}

    def trainer(self, index: int = 0) -> str:
        """Name of a trainer pod of the present attempt; of rank 0's, unless told."""
        return f"{self.name}-trainer-{index}-{self.attempt()}"

    def container(self, name: str) -> str:
        """Id of a pod's container."""
        return _container(self.pods()[name])

    def containers(self, role: str) -> set[str]:
        """Ids of the containers that run now."""
        return {_container(pod) for pod in self.pods(role).values() if pod["status"]["phase"] == "Running"}

    def nodes(self, role: str = "") -> dict[str, str]:
        """Where each pod is that has not ended."""
        living = {name: pod for name, pod in self.pods(role).items() if pod["status"]["phase"] not in ENDED}
        return {name: pod["spec"].get("nodeName", "") for name, pod in living.items()}

    def kill(self, name: str) -> None:
        """Kill a pod's first process, as the kernel does when memory is short. It waits until the job is whole: after
        another test a container may be on its way out."""
        self.wait_for(self.is_whole, "it trains beside both servers")
        node, container = _task(self.pods()[name])
        run(*self.cluster.ctr(node), "tasks", "kill", "--signal", "SIGKILL", container)

    def evict(self, name: str, **more: Any) -> Answer:
        """What the API server says to one step of a drain."""
        metadata = {"name": name, "namespace": NAMESPACE}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, **more}
        return self.cluster.api.post(f"{PODS}/{name}/eviction", body)

    def in_network_of(self, name: str) -> Command:
        """Before a command: run it in the network of a pod."""
        return network_of(self.cluster, self.pods()[name])

    def wait_for(self, happens: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
        """Return once it `happens`; `what` says so in words.

        Raises `AssertionError`, with what a user would look at, when it does not or the job fails.
        """

        def comes() -> bool:
            came = bool(happens())
            assert came or not self.is_("Failed"), f"the job failed before this: {what}\n{self.story()}"
            return came

        until(comes, lambda: f"{what}\n{self.story()}", within_s, POLL_S)

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


def network_of(cluster: Cluster, pod: Manifest) -> Command:
    """Before a command: run it in the network of a pod."""
    return cluster.in_container(*_task(pod))


def _task(pod: Manifest) -> tuple[str, str]:
    """A pod's node, and its container as containerd calls it."""
    return pod["spec"]["nodeName"], _container(pod).removeprefix("containerd://")


def _container(pod: Manifest) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])
