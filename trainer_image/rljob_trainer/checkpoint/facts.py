"""What of the spec and its files changes results: a bit-exact resume depends on it, and on the `versions` underneath.

Both are written into every checkpoint, so that a resume can say not only *that* something differs but *what*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.parallelism import Decay
from rljob_trainer.rewards import module_file

FACTS_FILE = "spec.json"
GROWING = ("algorithm.", "dtensor.", "megatron.", "parallelism.", "rollout.vllm.")
"""Sections in which a later version may have new fields."""
ORDER = ("data.", "algorithm.grpo.seed", "algorithm.grpo.promptsPerStep")
"""What decides which prompts a step asks. Validation too: what it asks is left out of training."""
CONTENT = " (content)"
"""Ends the name of a fact about a file that the spec names."""
DERIVED = {"trainer.worldSize": "the number of trainer ranks"}
"""Facts that are no field of a spec, in words."""
NOTHING, ABSENT, THERE = "null", "absent", "there"
Facts = dict[str, str]
"""Dotted path in the spec → value as JSON."""


def result_facts(spec: JobSpec) -> Facts:
    """Everything in the spec, and in the local files that it names, that changes results; when in doubt, in.

    Out: what is saved and logged, how failures are handled, how many servers there are (a sample's seed does
    not depend on the replica), resources, and images and environment, which are among the `Versions`: what the
    administrator adds is not in the spec.
    """
    options = spec.backend_options
    grpo_out = {"max_steps"} if options.scheduler.decay is Decay.CONSTANT else set()
    parts = {
        "model": spec.model,
        "data": spec.data,
        "reward": spec.reward,
        "algorithm.type": spec.algorithm.type,
        "algorithm.grpo": spec.algorithm.grpo.model_dump(mode="json", by_alias=True, exclude=grpo_out),
        "algorithm.sampling": spec.algorithm.sampling,
        "backend": spec.chosen_backend,
        str(spec.chosen_backend): options.model_dump(
            mode="json",
            by_alias=True,
            exclude={"enabled", "distributed_timeout_minutes", "check_for_nan_in_grad"},
        ),
        "parallelism": spec.parallelism,
        "trainer.worldSize": spec.trainer.world_size,
        "trainer.gpusPerNode": spec.trainer.gpus_per_node,
        "rollout.tensorParallel": spec.rollout.tensor_parallel,
        "rollout.vllm": spec.rollout.vllm.model_dump(
            mode="json", by_alias=True, exclude={"gpu_memory_utilization", "kv_cache_mib", "max_num_seqs"}
        ),
    }
    return _flat({path: _plain(part) for path, part in parts.items()}) | _contents(spec)


def of_the_spec(facts: Facts) -> Facts:
    """Without what stands in the files that it names, which may be edited in place."""
    return {path: value for path, value in facts.items() if not path.endswith(CONTENT)}


def _contents(spec: JobSpec) -> Facts:
    """Digests of data files and of the reward's own module; what that imports in turn is not looked at."""
    datasets = {"train": spec.data.train, "validation": spec.data.validation}
    files = {
        f"data.{name}.source": Path(dataset.source).expanduser()
        for name, dataset in datasets.items()
        if dataset is not None and dataset.is_file
    }
    if spec.reward.python and (module := module_file(spec.reward.python)):
        files["reward.python.module"] = module
    return {f"{path}{CONTENT}": _digest(file) for path, file in files.items() if file.is_file()}


@cache
def _digest(file: Path) -> str:
    """Taken once: the ranks read a file when they start, and what becomes of it later has no effect."""
    with file.open("rb") as content:
        return f"sha256 {hashlib.file_digest(content, 'sha256').hexdigest()[:12]}"


def _plain(part: object) -> object:
    dump = getattr(part, "model_dump", None)
    return dump(mode="json", by_alias=True) if dump else part


def _flat(tree: Manifest, prefix: str = "") -> Facts:
    flat: Facts = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat


def facts_text(facts: Facts) -> str:
    """Canonical JSON: equal facts, equal text."""
    return json.dumps(facts, sort_keys=True, indent=1)


def run_hash(spec: JobSpec) -> str:
    """sha256 of `result_facts`: equal hashes mean equal results on equal versions."""
    return hashlib.sha256(facts_text(result_facts(spec)).encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """Of a fact, since it was noted."""

    path: str
    """In the spec."""
    was: str
    """As JSON, or `absent`; of a block `there`."""
    now: str

    @property
    def of_order(self) -> bool:
        """Whether other prompts come next than would have come."""
        return self.path.startswith(ORDER)

    @property
    def told(self) -> str:
        more = ", which changes what prompts come next" if self.of_order else ""
        what = DERIVED.get(self.path, f"spec.{self.path}")
        return f"{what} was {self.was} and is {self.now}{more}"

    def of_block(self, optional: Iterable[str]) -> Self:
        """That of the `optional` block that it came or went with; this one, if there is none."""
        block = next((path for path in optional if self.path.startswith(f"{path}.")), None)
        if block is None:
            return self
        was, now = (value if value == ABSENT else THERE for value in (self.was, self.now))
        return replace(self, path=block, was=was, now=now)


def changes(then: Facts, spec: JobSpec) -> list[Change]:
    """What is another now, by path. A field that did not exist then had its default, and a block that came or went is
    one change."""
    now, was = result_facts(spec), _defaults(spec) | then
    pairs = ((path, _told(was, path), _told(now, path)) for path in sorted(then.keys() | now.keys()))
    found = [Change(path, before, after) for path, before, after in pairs if before != after]
    empty = [path for path, value in [*was.items(), *now.items()] if value == NOTHING]
    return list(dict.fromkeys(change.of_block(empty) for change in found))


def _told(facts: Facts, path: str) -> str:
    value = facts.get(path, NOTHING)
    return ABSENT if value == NOTHING else value


def _defaults(spec: JobSpec) -> Facts:
    """Of the sections whose fields all have one."""
    plain = JobSpec(model=spec.model, data=spec.data, reward=spec.reward, backend=spec.chosen_backend)
    return {path: value for path, value in result_facts(plain).items() if path.startswith(GROWING)}


def model_name(spec: JobSpec) -> str:
    return f"{spec.model.source}@{spec.model.revision}"
