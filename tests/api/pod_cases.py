"""One role that breaks each rule on pods and one beside it that does not, by the rule's name; tried for both roles."""

from __future__ import annotations

from typing import NamedTuple

from rljob_api.base import Manifest

SCRATCH: Manifest = {"name": "scratch", "emptyDir": {}}


class RoleCase(NamedTuple):
    """What `trainer`, or `rollout`, is."""

    bad: list[Manifest]
    good: list[Manifest]


def labelled(**entries: str) -> Manifest:
    return {"template": {"metadata": {"labels": entries}}}


def annotated(**entries: str) -> Manifest:
    return {"template": {"metadata": {"annotations": entries}}}


def volumes(*each: Manifest) -> Manifest:
    return {"template": {"spec": {"volumes": list(each)}}}


def mounted(path: str, name: str = "scratch") -> Manifest:
    return {**volumes(SCRATCH), "volumeMounts": [{"name": name, "mountPath": path}]}


def requests(**entries: str) -> Manifest:
    return {"resources": {"requests": entries}}


def env(name: str) -> Manifest:
    return {"env": [{"name": name, "value": "1"}]}


FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}}

ROLE_CASES: dict[str, RoleCase] = {
    "label-keys": RoleCase(
        bad=[
            labelled(**{"a b": "c"}),
            labelled(**{"/a": "b"}),
            annotated(**{"": "a"}),
            annotated(**{"a/b/c": "a"}),
            {"template": {"spec": {"nodeSelector": {"ключ": "a"}}}},
        ],
        good=[labelled(**{"example.com/team": "red", "team": ""}), annotated(a="{any: text}")],
    ),
    "own-labels": RoleCase(
        bad=[labelled(**{"rljob.io/name": "other"}), labelled(**{"app.kubernetes.io/instance": "other"})],
        good=[labelled(**{"kueue.x-k8s.io/queue-name": "a"})],
    ),
    "safe-annotations": RoleCase(
        bad=[
            annotated(**{"rljob.io/a": "b"}),
            annotated(**{"container.apparmor.security.beta.kubernetes.io/trainer": "unconfined"}),
            annotated(**{"io.kubernetes.cri-o.Devices": "/dev/mem"}),
        ],
        good=[annotated(**{"k8s.v1.cni.cncf.io/networks": "rdma-net"})],
    ),
    "no-system-priority": RoleCase(
        bad=[{"template": {"spec": {"priorityClassName": "system-node-critical"}}}],
        good=[{"template": {"spec": {"priorityClassName": "research"}}}],
    ),
    "one-kind-of-volume": RoleCase(
        bad=[volumes({"name": "a"}), volumes({"name": "a", "emptyDir": {}, "secret": {"secretName": "b"}})],
        good=[volumes({"name": "a", "secret": {"secretName": "b"}})],
    ),
    "own-volumes": RoleCase(
        bad=[volumes({"name": "storage", "emptyDir": {}})],
        good=[volumes({"name": "storage-2", "emptyDir": {}})],
    ),
    "mounts-of-template": RoleCase(bad=[mounted("/a", name="storage")], good=[mounted("/a")]),
    "free-mount-paths": RoleCase(
        bad=[
            mounted("/etc/rljob"),
            mounted("/dev/shm"),
            mounted("/var"),
            mounted("/run/secrets/kubernetes.io"),
        ],
        good=[mounted("/data/.cache"), mounted("/var/lib/rljobs")],
    ),
    "known-resources": RoleCase(
        bad=[requests(gpu="1"), requests(**{"nvidia.com/gpu": "1"}), {"resources": {"limits": {"CPU": "1"}}}],
        good=[requests(cpu="1", **{"rdma/hca": "1", "hugepages-2Mi": "4Mi"})],
    ),
    "free-env": RoleCase(bad=[env("RLJOB_RUN_FILE"), env("POD_IP")], good=[env("NCCL_DEBUG")]),
    "one-value": RoleCase(
        bad=[{"env": [{"name": "A", "value": "1", **FROM_SECRET}]}],
        good=[{"env": [{"name": "A", **FROM_SECRET}]}],
    ),
}
