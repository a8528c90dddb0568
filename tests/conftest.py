"""What all tests may ask for."""

from kube.fixtures import api_server

__all__ = ["api_server"]
