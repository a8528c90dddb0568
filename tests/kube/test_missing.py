"""What a job refers to and nobody made: real kubelets and the scheduler say so, and the job tells it in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kube.api import Manifest
from kube.cluster import Cluster
from kube.fixtures import install_crd
from kube.small_images import BUSYBOX
from shell.places import Place, condition

NOTHING = "nowhere"
"""The name of what is not there."""
VARIABLE = [{"name": "EXTRA", "valueFrom": {"secretKeyRef": {"name": NOTHING, "key": "token"}}}]


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace of the real cluster, and an operator with just its rights."""
    install_crd(cluster.api)
    place = Place(cluster.api, "missing", tmp_path_factory.mktemp("missing"))
    place.prepare()
    operator = place.operator()
    yield place
    operator.kill()


def volume(**source: Manifest) -> Manifest:
    """A kubelet mounts only what a container asks for."""
    volumes = [{"name": "extra", **source}]
    return {
        "template": {"spec": {"volumes": volumes}},
        "volumeMounts": [{"name": "extra", "mountPath": "/e"}],
    }


@pytest.mark.parametrize(
    ("name", "trainer", "reason"),
    [
        ("secret-volume", volume(secret={"secretName": NOTHING}), "SecretMissing"),
        ("config-map-volume", volume(configMap={"name": NOTHING}), "ConfigMapMissing"),
        ("secret-variable", {"env": VARIABLE}, "SecretMissing"),
        ("image", {"image": f"localhost/{NOTHING}:1"}, "ImagePullFailed"),
        ("claim", volume(persistentVolumeClaim={"claimName": NOTHING}), "ClaimNotReady"),
        ("runtime-class", {"template": {"spec": {"runtimeClassName": NOTHING}}}, "RuntimeClassMissing"),
        ("priority-class", {"template": {"spec": {"priorityClassName": NOTHING}}}, "PriorityClassMissing"),
    ],
)
def test_what_is_missing_is_named(place: Place, name: str, trainer: Manifest, reason: str) -> None:
    began = time.monotonic()
    place.submit(name, trainer={"image": BUSYBOX} | trainer, rollout={"image": BUSYBOX})

    def named(status: Manifest) -> bool:
        return condition(status, "PodsReady").get("reason") == reason and NOTHING in status["message"]

    place.until_status(named, name)
    print(f"{name}: told after {time.monotonic() - began:.1f} s")


def test_gpus_that_are_missing_are_named_and_the_gang_starts_once_a_node_has_them(
    place: Place, cluster: Cluster
) -> None:
    accelerator = {"resourceName": "example.com/gpu"}
    trainer = {"image": BUSYBOX, "gpusPerNode": 2}
    place.submit("gpus", trainer=trainer, rollout={"image": BUSYBOX}, accelerator=accelerator)
    told = place.until_reason("PodsReady", "Unschedulable", "gpus")
    assert "example.com/gpu" in told["message"]
    cluster.give_gpus("node0", 8, "example.com/gpu")
    place.until_status(has_restarted, "gpus")  # busybox ends at once
    cluster.give_gpus("node0", 0, "example.com/gpu")


def test_a_secret_that_comes_later_is_enough(place: Place) -> None:
    """The pod starts by itself: what it runs here ends at once, which is all that a busybox can do for a job."""
    secret = {"metadata": {"name": NOTHING}, "stringData": {"token": "t"}}
    place.made(f"/api/v1/namespaces/{place.namespace}/secrets", secret)
    told = place.until_status(has_restarted, "secret-variable")
    assert condition(told, "Accepted")["status"] == "True"


def has_restarted(status: Manifest) -> bool:
    return bool(status.get("restarts", 0) > 0)
