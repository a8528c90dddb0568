"""What all tests may ask for."""

from kube.fixtures import api_server as api_server
