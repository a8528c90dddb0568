"""A cluster with two real nodes on which RLJob is installed from its chart, with the real images, and a job on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from images.on_cluster import cluster_with_images
from kube.cluster import Cluster
from kube.fixtures import skipped_if_unavailable

from .deployment import MONITORED, NAMESPACE, Installation, install
from .job import CONFIG_MAPS, JOBS, PATIENT_REWARD, Job, spread

MANY_STEPS = 100_000
"""More than are taken before the last test asks for fewer, however long the others wait."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture(scope="package")
def installation() -> Iterator[Installation]:
    with skipped_if_unavailable(), cluster_with_images(nodes=2) as (cluster, images):
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("label", "namespace", NAMESPACE, "default", RESTRICTED)
        yield install(cluster, images.names, "--set=progressPeriodSeconds=1", *MONITORED)


@pytest.fixture(scope="package")
def rljob_cluster(installation: Installation) -> Cluster:
    """Bare but for RLJob."""
    return installation.cluster


@pytest.fixture(scope="package")
def job(rljob_cluster: Cluster) -> Job:
    """One that trains beside two servers, a node each. The modules act on it in turn; `test_life` ends it."""
    for path, made in ((CONFIG_MAPS, PATIENT_REWARD), (JOBS, spread("life", MANY_STEPS))):
        answer = rljob_cluster.api.post(path, made)
        assert answer.code == 201, answer.message
    job = Job(rljob_cluster, "life")
    job.wait_for(lambda: job.phase() == "Converting", "its model is converted")
    job.wait_for(
        lambda: job.step() >= 6 and job.ready() == "2/2", "six steps are done, and both servers ready"
    )
    return job
