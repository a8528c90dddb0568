"""What a job names that only this machine has: a cluster's pods would look for it in vain."""

from __future__ import annotations

from rljob_api.job import JobSpec

from .document import Document
from .errors import Problem

HOW = 'see "In a cluster" in docs/guide.md'


def left_behind(document: Document, spec: JobSpec) -> list[Problem]:
    """A problem for each relative path, and for a reward without a ConfigMap: images of the user's own may have both,
    so neither is refused."""
    found = [_model(document, spec), *_data(document, spec), _reward(document, spec)]
    return [problem for problem in found if problem is not None]


def _model(document: Document, spec: JobSpec) -> Problem | None:
    source = spec.model.source
    if not spec.model.is_directory or source.startswith("/"):
        return None
    message = (
        f"pods have no {source} of this machine: mount a claim that has it by spec.trainer.volumeMounts and "
        f"spec.rollout.volumeMounts, and name its path there, or an id of the hub; {HOW}"
    )
    return document.problem(("spec", "model", "source"), message)


def _data(document: Document, spec: JobSpec) -> list[Problem]:
    datasets = {"train": spec.data.train, "validation": spec.data.validation}
    return [
        document.problem(
            ("spec", "data", name, "source"),
            f"pods have no {dataset.source} of this machine: mount a claim or a ConfigMap that has it by "
            f"spec.trainer.volumeMounts, and name its path there; {HOW}",
        )
        for name, dataset in datasets.items()
        if dataset is not None and dataset.is_file and not dataset.source.startswith("/")
    ]


def _reward(document: Document, spec: JobSpec) -> Problem | None:
    python = spec.reward.python
    if python is None or python.config_map_ref is not None or spec.trainer.image:
        return None
    message = (
        f"only an image of your own has {python.module}: put its file into a ConfigMap, and name that in "
        f"spec.reward.python.configMapRef; {HOW}"
    )
    return document.problem(("spec", "reward", "python"), message)
