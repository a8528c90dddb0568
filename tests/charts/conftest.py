"""Chart tests want helm, kubeconform and an API server that knows nothing of RLJob yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kube.api import Api
from kube.control_plane import control_plane
from kube.fixtures import skipped_if_unavailable
from kube.programs import programs

from .prometheus import Promtool, prometheus
from .schemas import write_schemas


@dataclass(frozen=True)
class Blank:
    """An API server without the CRD, and how to reach it."""

    api: Api
    kubeconfig: Path


@pytest.fixture(scope="session", autouse=True)
def chart_programs() -> None:
    with skipped_if_unavailable():
        programs("helm", "kubeconform")


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blank]:
    folder = tmp_path_factory.mktemp("chart")
    with skipped_if_unavailable(), control_plane(folder) as api:
        yield Blank(api, folder / "admin.kubeconfig")


@pytest.fixture(scope="session")
def schemas(blank: Blank, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_schemas(blank.api, tmp_path_factory.mktemp("schemas"))


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    with skipped_if_unavailable():
        return Promtool(prometheus("promtool"))
    raise AssertionError("skipped_if_unavailable left nothing to return")
