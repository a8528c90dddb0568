"""Clusters for the tests of this folder, stopped after the last of them: an idle one still takes half a core."""

from kube.fixtures import cluster, two_node_cluster

__all__ = ["cluster", "two_node_cluster"]
