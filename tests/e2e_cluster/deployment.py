"""RLJob on a test cluster, installed as anybody would: by its chart, with the images of this repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.build import OPERATOR, REPOSITORY, TRAINER
from kube.api import Manifest
from kube.cluster import Cluster
from kube.processes import run
from kube.programs import programs

RELEASE = "rljob"
NAMESPACE = "rljob-system"
MONITORS = "monitoring"
"""The namespace whose pods may read what jobs tell, where `install` is given `MONITORED`."""
MONITORED = (
    f"--set=jobDefaults.progressNamespaces={{{MONITORS}}}",
    f"--set=jobDefaults.vllmMetricsNamespaces={{{MONITORS}}}",
)
CHART = REPOSITORY / "charts" / "rljob-operator"


@dataclass(frozen=True)
class Installation:
    """An operator on a cluster."""

    cluster: Cluster
    images: dict[str, str]
    flags: tuple[str, ...]

    def upgrade(self, *flags: str, chart: Path = CHART) -> str:
        """To another chart, with more values than at first; waits until the new operator is ready. What helm said.

        Raises `Failure` when it is not.
        """
        command = install_command(self.images, *self.flags, *flags, verb="upgrade", chart=chart)
        return helm(self.cluster, *command[1:])


def install(cluster: Cluster, images: dict[str, str], *flags: str) -> Installation:
    """Install the operator and wait until it is ready.

    Raises `Failure` when it is not.
    """
    helm(cluster, *install_command(images, *flags)[1:])
    return Installation(cluster, images, flags)


def helm(cluster: Cluster, *arguments: str) -> str:
    return run(programs("helm")["helm"], "--kubeconfig", cluster.kubeconfig, *arguments)


def operators(cluster: Cluster) -> list[Manifest]:
    """Its pods. The chart's own test leaves one beside them for a moment."""
    deployment = cluster.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/rljob-operator").body
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return list(
        cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}").body["items"]
    )


def install_command(
    images: dict[str, str], *flags: str, verb: str = "install", chart: Path = CHART
) -> list[str]:
    """What a user would type in the repository's root."""
    repository, tag = images[OPERATOR.name].rsplit(":", 1)
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "Never",
        "jobDefaults.image": images[TRAINER.name],
        "jobDefaults.imagePullPolicy": "Never",
    }
    return [
        *("helm", verb, RELEASE, str(chart)),
        *("--namespace", NAMESPACE, "--wait", "--timeout", "3m"),
        *(("--create-namespace",) if verb == "install" else ()),
        *(f"--set-string={name}={value}" for name, value in values.items()),
        *flags,
    ]
