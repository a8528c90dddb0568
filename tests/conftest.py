"""What all tests may ask for."""

from kube.fixtures import api_server, cluster, two_node_cluster

__all__ = ["api_server", "cluster", "two_node_cluster"]
