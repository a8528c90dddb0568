"""A cluster with one real node on which RLJob is installed from its chart, with the real images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from images.on_cluster import cluster_with_images
from kube.cluster import Cluster
from kube.fixtures import skipped_if_unavailable

from .deployment import install

PROGRESS_AT_ONCE = "--set=progressPeriodSeconds=1"


@pytest.fixture(scope="package")
def rljob_cluster() -> Iterator[Cluster]:
    """Bare but for RLJob."""
    with skipped_if_unavailable(), cluster_with_images(nodes=1) as (cluster, images):
        install(cluster, images.names, PROGRESS_AT_ONCE)
        yield cluster
