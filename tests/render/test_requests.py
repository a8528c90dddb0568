"""No container asks for nothing: what the job leaves out, the administrator's defaults fill in."""

from __future__ import annotations

import pytest

from rljob_api.base import Manifest, Resources
from rljob_operator.render.requests import resources, times
from rljob_operator.settings import JobDefaults, Requests

DEFAULTS: Requests = {"cpu": "500m", "memory": "1Gi"}


def asked(gpus: int = 0, **own: dict[str, str]) -> Manifest:
    return resources(Resources(**own), DEFAULTS, "nvidia.com/gpu", gpus)


def test_a_pod_without_gpus_asks_for_the_defaults_once() -> None:
    assert asked() == {"requests": DEFAULTS, "limits": {}}


def test_a_pod_asks_for_the_defaults_of_each_gpu() -> None:
    gpus = {"nvidia.com/gpu": "8"}
    assert asked(8) == {"requests": {"cpu": "4000m", "memory": "8Gi", **gpus}, "limits": gpus}


def test_what_the_job_asks_for_stays() -> None:
    assert asked(8, requests={"cpu": "1"})["requests"]["cpu"] == "1"
    assert asked(8, requests={"cpu": "1"})["requests"]["memory"] == "8Gi"


def test_a_limit_is_not_exceeded_by_a_default() -> None:
    """Kubernetes takes a limit for the request where there is none, and refuses a request above it."""
    assert "cpu" not in asked(limits={"cpu": "100m"})["requests"]


def test_an_administrator_may_ask_for_nothing() -> None:
    none = JobDefaults(trainer_requests={}).trainer_requests
    assert resources(Resources(), none, "nvidia.com/gpu", 0) == {"requests": {}, "limits": {}}


@pytest.mark.parametrize(
    ("quantity", "count", "product"), [("1.5", 2, "3.0"), ("250m", 3, "750m"), ("2Gi", 4, "8Gi")]
)
def test_a_quantity_keeps_its_unit(quantity: str, count: int, product: str) -> None:
    assert times(quantity, count) == product
