"""`make demo-cluster [JOB=examples/….yaml]`: from nothing to a trained model on a real cluster, every command in sight.

A cluster is started on this machine, the operator is installed from its chart with images built from this repository,
an example job is applied and watched until it is complete. Then all of it goes again, but for caches.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from images.build import REPOSITORY
from images.on_cluster import cluster_with_images
from kube import packages
from kube.processes import Failure
from kube.programs import Unavailable, programs
from rljob_cli.errors import UserMistake
from rljob_cli.load import load_job

from .deployment import install_command

WITHIN = "1200"


def main(job: str) -> int:
    """0 when the job in that file completed."""
    name = load_job(REPOSITORY / job).metadata.name
    packages.install()
    print("==> a cluster with one real node, with the images from this repository's Dockerfiles", flush=True)
    with cluster_with_images(nodes=1) as (cluster, images):
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        os.environ["PATH"] = (
            f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # kubectl's plugin is there
        )
        show("kubectl", "get", "nodes")
        show(*install_command(images.names))
        show("kubectl", "apply", "-f", job)
        complete = completes(name)
    print("\n==> the cluster is removed, and nothing of it is left", flush=True)
    return 0 if complete else 1


def completes(name: str) -> bool:
    """Show the job until it ends; whether it is complete.

    Only one program tells at a time: two that write to a terminal mix in the middle of a line.
    """
    watch, wait = ["kubectl", "get", "rljobs", "-w"], ["kubectl", "rljob", "wait", name, "--timeout", WITHIN]
    say(*watch)
    with subprocess.Popen(real(*watch), cwd=REPOSITORY) as watching:
        waited = subprocess.run(real(*wait), cwd=REPOSITORY, check=False, capture_output=True, text=True)
        watching.terminate()
    say(*wait)
    print(*(waited.stdout + waited.stderr).splitlines()[-1:], flush=True)
    show("kubectl", "rljob", "status", name)
    return waited.returncode == 0


def show(*command: str) -> None:
    """Run a command in sight.

    Raises `Failure` when it fails.
    """
    say(*command)
    if subprocess.run(real(*command), cwd=REPOSITORY, check=False).returncode:
        raise Failure(f"`{' '.join(command[:2])}` failed; what it said is above")


def say(*command: str) -> None:
    print(f"\n$ {' '.join(command)}".replace(f"{REPOSITORY}/", ""), flush=True)


def real(program: str, *arguments: str) -> list[str]:
    return [str(programs(program)[program]), *arguments]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (Failure, Unavailable, UserMistake) as reason:
        sys.exit(f"demo-cluster: {reason}")
