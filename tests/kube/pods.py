"""Pods of the small busybox image, and what becomes of them. For tests that need a pod and do not care which."""

from __future__ import annotations

from collections.abc import Callable

from waiting import until

from .api import Api, Manifest
from .small_images import BUSYBOX

DEFAULT = "default"
PODS = "/api/v1/namespaces/default/pods"
PAUSE_S = 0.1
NOBODY = {"runAsUser": 65532, "runAsNonRoot": True}


def busybox(
    name: str,
    script: str,
    *,
    container: Manifest | None = None,
    labels: dict[str, str] | None = None,
    namespace: str = DEFAULT,
    **spec: object,
) -> Manifest:
    """A pod that runs a shell script once; `container` and `spec` add to its container and its spec."""
    runs = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
    once = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [runs | (container or {})], **once, **spec},
    }


def pods_of(namespace: str) -> str:
    """Where the API server has them."""
    return f"/api/v1/namespaces/{namespace}/pods"


def create(api: Api, pod: Manifest) -> str:
    """Its name.

    Raises `AssertionError` with the refusal.
    """
    answer = api.post(pods_of(pod["metadata"].get("namespace", DEFAULT)), pod)
    assert answer.code == 201, answer.message
    return str(pod["metadata"]["name"])


def delete(api: Api, name: str) -> None:
    """Delete at once, and wait until it is gone."""
    api.send("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    wait_for(api, name, lambda pod: pod.get("code") == 404)


def wait_for(api: Api, name: str, happens: Callable[[Manifest], bool], namespace: str = DEFAULT) -> Manifest:
    """The pod once it is as asked for.

    Raises `AssertionError` with its status when that does not happen.
    """
    seen: list[Manifest] = []

    def is_so() -> bool:
        seen[:] = [api.get(f"{pods_of(namespace)}/{name}").body]
        return happens(seen[0])

    until(is_so, lambda: f"{name} is as asked for: {seen[0].get('status', seen[0])}", pause_s=PAUSE_S)
    return seen[0]


def eventually(happens: Callable[[], bool], what: str) -> None:
    """Return once it `happens`; `what` says so in words.

    Raises `AssertionError` when it does not.
    """
    until(happens, what, pause_s=PAUSE_S)


def is_in_phase(*phases: str) -> Callable[[Manifest], bool]:
    return lambda pod: pod.get("status", {}).get("phase") in phases


def is_unplaceable(pod: Manifest) -> bool:
    """The scheduler said that no node has room for it."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one.get("reason") == "Unschedulable" for one in conditions)


def is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def finished(api: Api, pod: Manifest) -> Manifest:
    """The status of the pod's container after it ended: exitCode, message ... The pod is gone afterwards."""
    name = create(api, pod)
    ended = wait_for(api, name, is_in_phase("Succeeded", "Failed"))
    delete(api, name)
    return dict(ended["status"]["containerStatuses"][0]["state"]["terminated"])
