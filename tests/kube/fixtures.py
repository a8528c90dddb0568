"""Fixtures: a real API server that knows RLJob, and real clusters.

`tests/conftest.py` offers the first to all tests, `tests/kube/conftest.py` the others to its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rljob_api.base import GROUP
from rljob_api.crd import PLURAL, crd
from waiting import until

from .api import Api, Manifest
from .cluster import Cluster
from .control_plane import control_plane
from .launch import cluster_of
from .programs import Unavailable

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
JOBS = f"/apis/{GROUP}/v1alpha1/{PLURAL}"
"""Of all namespaces."""


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A real API server with the CRD of RLJob, and nothing else: no controllers, no nodes."""
    with skipped_if_unavailable(), control_plane(tmp_path_factory.mktemp("kube")) as api:
        install_crd(api)
        yield api


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A cluster with one real node, bare: whoever needs RLJob installs it."""
    with skipped_if_unavailable(), cluster_of(nodes=1) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def two_node_cluster() -> Iterator[Cluster]:
    """A cluster with two real nodes, bare."""
    with skipped_if_unavailable(), cluster_of(nodes=2) as cluster:
        yield cluster


@contextmanager
def skipped_if_unavailable() -> Iterator[None]:
    """Without the means for what is asked for in the block: skip with the reason, but fail under CI=true."""
    try:
        yield
    except Unavailable as reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(reason))


def install_crd(api: Api) -> None:
    """Let the API server serve RLJobs."""
    created = api.post(CRDS, crd())
    assert created.code == 201, created.message
    wait_until_established(api)


def wait_until_established(api: Api) -> Manifest:
    """The CRD once the API server serves it, which is a moment after it says so.

    Raises `AssertionError` with its conditions when that does not happen.
    """
    found: Manifest = {}

    def conditions() -> dict[str, Manifest]:
        return {each["type"]: each for each in found.get("status", {}).get("conditions") or []}

    def established() -> bool:
        found.update(api.get(f"{CRDS}/{PLURAL}.{GROUP}").body)
        return conditions().get("Established", {}).get("status") == "True" and api.get(JOBS).code == 200

    until(established, lambda: str(conditions()))
    return found
