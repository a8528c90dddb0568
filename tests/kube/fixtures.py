"""The fixture `api_server`: a real API server that knows RLJob. `tests/conftest.py` offers it to all tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rljob_api.base import GROUP
from rljob_api.crd import PLURAL, crd

from .api import Api, Manifest
from .control_plane import control_plane
from .programs import Unavailable

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A real API server with the CRD of RLJob. Without the means to have one: skipped, but failed under CI=true."""
    with ExitStack() as stack:
        try:
            api = stack.enter_context(control_plane(tmp_path_factory.mktemp("kube")))
        except Unavailable as reason:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(reason))
        created = api.post(CRDS, crd())
        assert created.code == 201, created.message
        wait_until_established(api)
        yield api


def wait_until_established(api: Api) -> Manifest:
    """The CRD once the API server serves it.

    Raises `AssertionError` with its conditions when that does not happen.
    """
    deadline = time.monotonic() + 30
    while True:
        found = api.get(f"{CRDS}/{PLURAL}.{GROUP}").body
        listed = found.get("status", {}).get("conditions") or []
        conditions = {each["type"]: each for each in listed}
        if conditions.get("Established", {}).get("status") == "True":
            return found
        assert time.monotonic() < deadline, conditions
        time.sleep(0.05)
