"""What tests of the operator may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube.api import Api

from .kubelet import Kubelet
from .memory_api import MemoryApi
from .places import Place
from .rooms import Room
from .virtual_time import virtual_time

__all__ = ["virtual_time"]

numbers = itertools.count()


@pytest.fixture
def place(api_server: Api, tmp_path: Path) -> Iterator[Place]:
    """A namespace of its own. No operator that was started in it outlives the test."""
    place = Place(api_server, f"place-{next(numbers)}", tmp_path)
    place.prepare()
    yield place
    for operator in place.operators:
        operator.kill()


@pytest.fixture
def kubelet(place: Place) -> Kubelet:
    return Kubelet(place.api, place.namespace)


@pytest.fixture(params=["real", "memory"])
def room(request: pytest.FixtureRequest) -> Room:
    namespace = f"contract-{next(numbers)}"
    if request.param == "memory":
        return Room(MemoryApi(lambda: "2026-01-01T00:00:00Z"), namespace)
    api: Api = request.getfixturevalue("api_server")
    api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    return Room(api, namespace)
