"""Builders of jobs: the least that is accepted, and what a test adds to it."""

from __future__ import annotations

import copy
from typing import Any

from rljob_api.base import API_VERSION, KIND, Manifest
from rljob_api.job import JobSpec

LEAST: Manifest = {
    "model": {"source": "builtin:addition"},
    "data": {"train": {"source": "builtin:addition"}},
    "reward": {"builtin": "exactMatch"},
}
"""The least spec that trains."""


def spec(**fields: Any) -> Manifest:
    """The least spec, with the sections in `fields` instead of or beside its own; None removes one."""
    merged = {**copy.deepcopy(LEAST), **fields}
    return {key: value for key, value in merged.items() if value is not None}


def job(name: str = "a", spec_: Manifest | None = None) -> Manifest:
    """A whole RLJob as plain data."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec() if spec_ is None else spec_,
    }


def parsed(**fields: Any) -> JobSpec:
    """The same as `spec`, as a model."""
    return JobSpec.parse(spec(**fields))
