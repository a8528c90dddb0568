"""The same job on dtensor and on Megatron, three seeds each: what each of them learns. And once with experts."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean

from ruamel.yaml import YAML

from bench import REPOSITORY
from bench.learning import RISE, Run, run
from bench.result import Result, at_least, at_most
from rljob_api.base import Manifest

EXAMPLES = {
    "dtensor": "addition-cpu.yaml",
    "megatron, tensor 2": "addition-megatron-cpu.yaml",
}
EXPERTS = "moe-megatron-cpu.yaml"
SEEDS = (42, 43, 44)
MISMATCH = 1e-4


def measure(folder: Path) -> Result:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ["NRL_MEGATRON_CHECKPOINT_DIR"] = str(folder / "cache" / "megatron")
    runs = {
        name: [run(folder / f"{name.split(',')[0]}-{seed}", example(file, seed)) for seed in SEEDS]
        for name, file in EXAMPLES.items()
    }
    experts = run(folder / "experts", example(EXPERTS, SEEDS[0]))
    dtensor, megatron = ([one.last for one in of] for of in runs.values())
    return Result(
        name="backends",
        checks=[
            at_most(
                "difference of the mean held-out accuracy between the backends",
                abs(mean(dtensor) - mean(megatron)),
                max(spread(dtensor), spread(megatron)),
            ),
            at_least("held-out accuracy gained with experts", experts.last - experts.first, RISE),
            at_most(
                "largest difference between trainer's and vLLM's log-probabilities with experts",
                max(experts.curves["mismatch_max"].values()),
                MISMATCH,
            ),
        ],
        facts={
            "megatron, experts": told(experts),
            **{
                f"{name}, seed {seed}": told(one)
                for name, of in runs.items()
                for seed, one in zip(SEEDS, of, strict=True)
            },
        },
        comment="The examples as they are, `rljob run`, seeds 42 to 44; accuracy on all 2000 held-out sums at"
        " temperature 1, before the first step and after the last. Target: no further apart than the seeds of one"
        " backend are from one another (largest less smallest). With experts: moe-megatron-cpu.yaml, every token of"
        " every step compared.",
    )


def example(file: str, seed: int) -> Manifest:
    job: Manifest = YAML(typ="safe").load(REPOSITORY / "examples" / file)
    job["spec"]["algorithm"]["grpo"]["seed"] = seed
    return job


def spread(accuracies: list[float]) -> float:
    return max(accuracies) - min(accuracies)


def told(one: Run) -> str:
    return f"{one.first:.3f} → {one.last:.3f}"
