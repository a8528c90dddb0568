"""What tests of the operator may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube.api import Api

from .kubelet import Kubelet
from .places import Place
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
