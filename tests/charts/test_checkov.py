"""checkov, an independent judge of manifests, finds nothing in any variant but what is as it must be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kube.fixtures import skipped_if_unavailable
from kube.programs import Unavailable

from .chart import CHART, DEFAULT, RELEASE, ROOT, VARIANTS, helm

CHECKOV = "checkov==3.3.30"
ACCEPTED = {
    "CKV_K8S_11",  # no limit of processor time: it would slow the answer to a failure, and protect nobody
    "CKV_K8S_15",  # the pull policy is the user's; a tag of ours is never moved
    "CKV_K8S_38",  # the operator talks to the API server: that is its work
    "CKV_K8S_43",  # `image.digest` is the user's to set
}
ABOUT_THE_TEST_POD = {
    "CKV_K8S_8",  # no probes: it ends by itself
    "CKV_K8S_9",
    "CKV2_K8S_6",  # no NetworkPolicy: it lives for a second and listens nowhere
}
READ_ONLY = "CKV_K8S_22"

Finding = tuple[str, str]
"""Name of the check and of the file."""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> set[Finding]:
    """Of all variants, and of one that was weakened; in one run, for it takes seconds to start."""
    folder = tmp_path_factory.mktemp("manifests")
    for values in VARIANTS:
        (folder / f"{values.stem}.yaml").write_text(manifests(values))
    weakened = manifests(DEFAULT)
    (folder / "weakened.yaml").write_text(weakened.replace("readOnlyRootFilesystem: true", ""))
    with skipped_if_unavailable():
        return checkov(folder)
    raise AssertionError("skipped_if_unavailable left nothing to return")


def manifests(values: Path) -> str:
    """In a namespace of their own, or one variant's NetworkPolicy would be taken for another's.

    Without the CRD, in which it looks for nothing: reading it takes half a minute a variant.
    """
    without = ["--set", "crds.install=false"]
    return helm("template", RELEASE, CHART, "--namespace", values.stem, "--values", values, *without)


def checkov(folder: Path) -> set[Finding]:
    """What it finds fault with. It runs in an environment of its own, and calls nobody.

    Raises `Unavailable` where it cannot be had.
    """
    uv = shutil.which("uv", path=f"{os.environ['PATH']}:{ROOT / '.venv-uv' / 'bin'}")
    if uv is None:
        raise Unavailable("no uv here to get checkov with: `make setup` installs it")
    flags = ["--framework", "kubernetes", "--skip-download", "--quiet", "--compact", "--output", "json"]
    command = [
        uv,
        "tool",
        "run",
        CHECKOV,
        *flags,
        "--skip-check",
        ",".join(ACCEPTED),
        "--directory",
        str(folder),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if not ended.stdout.startswith("{"):
        raise Unavailable(f"no checkov here: {ended.stderr.strip()[-500:]}")
    failed = json.loads(ended.stdout)["results"]["failed_checks"]
    return {
        (each["check_id"], each["file_path"].strip("/"))
        for each in failed
        if not (each["resource"].endswith("-test") and each["check_id"] in ABOUT_THE_TEST_POD)
    }


def test_checkov_finds_no_fault_in_any_variant(findings: set[Finding]) -> None:
    wanted = {
        ("CKV2_K8S_6", "bare-values.yaml"),  # its NetworkPolicy is somebody else's
        ("CKV_K8S_40", "openshift-values.yaml"),  # OpenShift chooses a high user id
    }
    assert {each for each in findings - wanted if each[1] != "weakened.yaml"} == set()


def test_checkov_would_find_a_weakened_pod(findings: set[Finding]) -> None:
    assert (READ_ONLY, "weakened.yaml") in findings
