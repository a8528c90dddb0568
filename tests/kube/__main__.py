"""`make cluster` and `make cluster-down`: a cluster that stays until it is told to go.

python -m kube up [SIZE [images]] | down | kubectl ARGUMENTS... | run COMMAND...
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from e2e_cluster.deployment import install_command
from images.build import REPOSITORY
from images.seed import Seed, seed

from . import packages, places
from .cluster import Cluster
from .launch import launch, running_clusters, stop
from .processes import Failure
from .programs import Unavailable, programs

SIZES = {"0": 0, "1": 1, "2": 2}


def main(arguments: list[str]) -> None:
    match arguments:
        case ["up"]:
            up(1)
        case ["up", size, *_] if size not in SIZES:
            sys.exit(f"kube: SIZE is 0, 1 or 2, not {size}")
        case ["up", size]:
            up(SIZES[size])
        case ["up", size, "images"]:
            up(SIZES[size], seed)
        case ["down"]:
            down()
        case ["kubectl", *rest]:
            cluster = _the_cluster()
            _become(programs("kubectl")["kubectl"], "--kubeconfig", cluster.kubeconfig, *rest)
        case ["run", *rest]:
            cluster = _the_cluster()
            os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
            _become(*cluster.inside(), *rest)
        case _:
            sys.exit(f"{__doc__}\nSIZE is 0 (control plane alone), 1 or 2.")


def up(nodes: int, images: Callable[[], Seed] | None = None) -> None:
    """Have a cluster of so many nodes, started or, unless it shall have `images`, found."""
    if given := _given_kubeconfig():
        print(
            f"KUBECONFIG names a cluster already ({given}); nothing is started. Unset it to have one made here."
        )
        return
    for cluster in running_clusters():
        if images or len(cluster.nodes) != nodes:
            raise Failure(f"a cluster with {_size(cluster)} is up; `make cluster-down` first")
        _introduce(cluster, "is up already")
        return
    packages.install()
    planted = images() if images else None
    started = time.monotonic()
    cluster, _ = launch(nodes, ends_with_us=False, tell=print, plant=planted.plant if planted else None)
    _introduce(cluster, f"is up after {time.monotonic() - started:.0f} s")
    if planted:
        print(install_steps(planted.names))


def down() -> None:
    """Have no cluster, and nothing left of earlier ones."""
    places.clear_what_is_stale()
    found = list(running_clusters())
    for cluster in found:
        stop(cluster)
    print("the cluster is down, and nothing is left of it" if found else "no cluster is up")


def _the_cluster() -> Cluster:
    for cluster in running_clusters():
        return cluster
    raise Failure("no cluster is up; `make cluster` starts one")


def _given_kubeconfig() -> str:
    given = os.environ.get("KUBECONFIG", "")
    ours = {str(cluster.kubeconfig) for cluster in running_clusters()}
    return "" if given in ours else given


def _introduce(cluster: Cluster, what: str) -> None:
    print(f"""\
A cluster with {_size(cluster)} {what}. Next:

  export KUBECONFIG={cluster.kubeconfig}
  kubectl get nodes                   (without kubectl: make kubectl ARGS="get nodes")
  make cluster-down                   removes it

Logs of its programs: {cluster.folder}""")


def install_steps(images: dict[str, str]) -> str:
    """What to type in the repository's root, so that its operator runs its example."""
    found = [Path(sys.executable), *programs("kubectl", "helm").values()]
    install = shlex.join(install_command(images)).replace(f"{REPOSITORY}/", "")
    return f"""
It has this repository's images, and nothing of it runs yet:

  export PATH={":".join(str(program.parent) for program in found)}:$PATH
  {install}
  kubectl apply -f examples/addition-cpu.yaml
  kubectl rljob wait addition"""


def _size(cluster: Cluster) -> str:
    return ["no node", "1 real node", "2 real nodes"][len(cluster.nodes)]


def _become(*command: str | Path) -> NoReturn:
    os.execvp(command[0], [str(each) for each in command])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Failure, Unavailable) as reason:
        sys.exit(f"kube: {reason}")
