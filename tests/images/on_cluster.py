"""A test cluster whose nodes have the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kube.cluster import Cluster
from kube.launch import check, cluster_of

from .seed import Seed, seed


@contextmanager
def cluster_with_images(nodes: int) -> Iterator[tuple[Cluster, Seed]]:
    """A new cluster of so many real nodes, and what is on them. It ends with the block.

    Raises `Unavailable` where none can be had, `Failure` when a build fails or the cluster does not start.
    """
    check(nodes)  # images take far longer to build
    images = seed()
    with cluster_of(nodes, images.plant) as cluster:
        yield cluster, images
