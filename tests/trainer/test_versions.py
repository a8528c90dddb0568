"""What lies under a bit-exact resume: image contents, environment and devices are noted, so that a change is seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import rljob_api
import rljob_trainer
from rljob_api.base import EnvVar
from rljob_api.manifest import Versions
from rljob_trainer.checkpoint.basis import version_doubts
from rljob_trainer.checkpoint.versions import (
    code_digest,
    of_all_ranks,
    packages_digest,
    processor,
    system_digest,
    versions_here,
)
from rljob_trainer.distributed import Ranks
from trainer.checkpoints import VERSIONS, a_run
from trainer.ranks import run_ranks

RECORD = "numpy/a.py,sha256=x,1\nnumpy.libs/libblas.so.0.3,sha256=y,1\n../../../bin/f2py,sha256=z,1\n"


def an_image(folder: Path, tag: str) -> tuple[str, str]:
    """Digests of a package and of what is installed beside it."""
    (folder / tag / "package" / "deep").mkdir(parents=True)
    (folder / tag / "package" / "deep" / "code.py").write_text("a = 1")
    numpy = folder / tag / "numpy-2.0.dist-info"
    numpy.mkdir()
    (numpy / "RECORD").write_text(RECORD)
    return digests(folder / tag)


def digests(folder: Path) -> tuple[str, str]:
    code_digest.cache_clear()
    packages_digest.cache_clear()
    return code_digest(folder / "package"), packages_digest((str(folder), ""))


def test_an_image_with_other_code_or_other_libraries_is_another_whatever_its_tag(tmp_path: Path) -> None:
    code, packages = an_image(tmp_path, "first")
    assert an_image(tmp_path, "again") == (code, packages), "wherever it lies"
    again = tmp_path / "again"
    (again / "package" / "deep" / "code.pyc").touch()
    assert digests(again) == (code, packages), "what Python keeps beside it is no code"
    (again / "numpy-2.0.dist-info" / "RECORD").write_text(
        RECORD.replace("sha256=z", "sha256=of another shebang")
    )
    assert digests(again) == (code, packages), "it begins with the place of Python"
    (again / "numpy-2.0.dist-info" / "RECORD").write_text(RECORD.replace("sha256=y", "sha256=another build"))
    assert digests(again)[1] != packages
    (again / "numpy-2.0.dist-info" / "RECORD").write_text(RECORD)
    (again / "numpy-2.0.dist-info").rename(again / "numpy-2.1.dist-info")
    assert digests(again)[0] == code
    assert digests(again)[1] != packages
    (again / "package" / "deep" / "code.py").write_text("a = 2")
    assert digests(again)[0] != code


def test_what_is_installed_here_is_noted(tmp_path: Path) -> None:
    here = versions_here(a_run(tmp_path))
    assert here.code == code_digest(Path(*rljob_api.__path__), Path(*rljob_trainer.__path__))
    assert here.packages == packages_digest(tuple(sys.path)) != packages_digest(())
    assert here.system == system_digest(Path("/proc/self/maps"))
    assert processor(Path("/proc/cpuinfo")) in here.device or here.device.startswith("cuda")


def test_another_c_library_or_driver_is_seen_and_what_else_is_loaded_is_not(tmp_path: Path) -> None:
    def digest(*loaded: str) -> str:
        maps = tmp_path / "maps"
        lines = [f"7f00-7f01 r-xp 00000000 fe:00 1234    {tmp_path / name}" for name in loaded]
        maps.write_text("\n".join(["7f02-7f03 rw-p 00000000 00:00 0", *lines, *lines]))
        system_digest.cache_clear()
        return system_digest(maps)

    for name in ("libm.so.6", "libc.so.6", "libcuda.so.1", "libssl.so.3"):
        (tmp_path / name).write_text(name)
    alone = digest("libc.so.6", "libm.so.6")
    assert digest("libm.so.6", "libssl.so.3", "libc.so.6") == alone
    assert digest("libc.so.6", "libm.so.6", "libcuda.so.1") != alone
    (tmp_path / "libm.so.6").write_text("another build")
    assert digest("libc.so.6", "libm.so.6") != alone


X86 = """processor\t: 0
vendor_id\t: {}
cpu family\t: {}
model\t\t: {}
model name\t: {}
stepping\t: 8

processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (X86.format("GenuineIntel", 6, 143, "Intel(R) Xeon(R)"), "GenuineIntel 6 143 Intel(R) Xeon(R)"),
        (X86.format("AuthenticAMD", 25, 17, "AMD EPYC"), "AuthenticAMD 25 17 AMD EPYC"),
        (ARM, "0x41 0xd40"),
    ],
)
def test_a_processor_is_told_from_others_with_the_same_vectors(
    tmp_path: Path, listed: str, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(listed)
    assert processor(tmp_path / "cpuinfo") == expected


def test_what_is_installed_does_not_depend_on_what_was_imported(tmp_path: Path) -> None:
    an_image(tmp_path, "first")
    vendored = tmp_path / "first" / "setuptools" / "_vendor"
    (vendored / "wheel-0.45.dist-info").mkdir(parents=True)
    path = (str(tmp_path / "first"),)
    assert packages_digest((*path, str(vendored))) == packages_digest(path)


ENV: dict[str, Any] = {
    "env": [
        {"name": "OMP_NUM_THREADS", "value": "2"},
        {"name": "WANDB_MODE", "value": "offline"},
        {"name": "https_proxy", "value": "http://a.proxy"},
        {"name": "LICENSE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "license"}}},
    ]
}


def test_the_environment_that_job_and_administrator_set_is_noted_and_no_secret_is(tmp_path: Path) -> None:
    run = a_run(tmp_path, trainer=ENV)
    defaults = [EnvVar(name="OMP_NUM_THREADS", value="4"), EnvVar(name="VLLM_CPU_SGL_KERNEL", value="1")]
    here = versions_here(run.model_copy(update={"default_env": defaults}))
    assert here.trainer_environment == {
        "LICENSE": "key license of Secret keys",
        "OMP_NUM_THREADS": "2",
        "VLLM_CPU_SGL_KERNEL": "1",
    }
    assert here.rollout_environment == {"OMP_NUM_THREADS": "4", "VLLM_CPU_SGL_KERNEL": "1"}


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({}, {"OMP_NUM_THREADS": "2"}, ["OMP_NUM_THREADS in the rollout environment was absent and is 2"]),
        ({"A": ""}, {}, ["A in the rollout environment was empty and is absent"]),
        ({"A": "1"}, {"A": "1"}, []),
        (None, {"A": "1"}, []),
    ],
    ids=["new", "gone", "the same", "not noted by an older version"],
)
def test_each_variable_is_told_by_itself(
    then: dict[str, str] | None, now: dict[str, str], told: list[str]
) -> None:
    was, is_now = (VERSIONS.model_copy(update={"rollout_environment": each}) for each in (then, now))
    assert version_doubts(was, is_now) == told


def gathered() -> Versions:
    """Rank 1 is on another machine than rank 0."""
    rank, world = dist.get_rank(), dist.get_world_size()
    store: Any = dist.distributed_c10d._get_default_store()
    other = {"device": "cpu AVX2", "threads": 8} if rank == 1 else {}
    ranks = Ranks(rank, rank, world, store, dist.new_group())
    return of_all_ranks(ranks.gathered(VERSIONS.model_copy(update=other)))


def test_a_device_or_threads_of_another_rank_than_the_first_are_seen() -> None:
    first, second = run_ranks(2, gathered)
    assert first == second
    alike = of_all_ranks([VERSIONS, VERSIONS])
    assert version_doubts(alike, first) == [
        "difference among ranks was none and is rank 1: device cpu AVX2, threads 8"
    ]
    assert version_doubts(first, alike) != []
    other = VERSIONS.model_copy(update={"device": "cpu AVX2"})
    assert of_all_ranks([VERSIONS, other, other]).difference_among_ranks == "ranks 1 to 2: device cpu AVX2"
