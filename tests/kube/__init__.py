"""A real Kubernetes on this machine, from an API server alone to two nodes, for tests and for `make cluster`."""
