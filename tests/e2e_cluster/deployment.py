"""RLJob on a test cluster, installed as anybody would: by its chart, with the images of this repository."""

from __future__ import annotations

from images.build import OPERATOR, REPOSITORY, TRAINER
from kube.cluster import Cluster
from kube.processes import run
from kube.programs import programs

RELEASE = "rljob"
NAMESPACE = "rljob-system"
CHART = REPOSITORY / "charts" / "rljob-operator"


def install(cluster: Cluster, images: dict[str, str], *flags: str) -> str:
    """Install the operator and wait until it is ready; what helm said.

    Raises `Failure` when it is not.
    """
    helm, *arguments = install_command(images, *flags)
    return run(programs(helm)[helm], "--kubeconfig", cluster.kubeconfig, *arguments)


def install_command(images: dict[str, str], *flags: str) -> list[str]:
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
        *("helm", "install", RELEASE, str(CHART)),
        *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"),
        *(f"--set-string={name}={value}" for name, value in values.items()),
        *flags,
    ]
