"""The test cluster itself: what every other test takes for granted."""

from __future__ import annotations

from kube.cluster import Cluster


def test_the_node_is_ready(cluster: Cluster) -> None:
    assert cluster.kubectl("get", "nodes", "--output=name").split() == ["node/node0"]
