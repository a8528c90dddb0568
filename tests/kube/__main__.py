"""`make cluster` and `make cluster-down`: a cluster that stays until it is told to go.

python -m kube up [NODES] | down | kubectl ARGUMENTS... | run COMMAND...
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from . import packages, places
from .cluster import Cluster
from .launch import launch, running_clusters, stop
from .processes import Failure
from .programs import Unavailable, programs


def main(arguments: list[str]) -> None:
    match arguments:
        case ["up"]:
            up(1)
        case ["up", nodes] if nodes.isdigit() and int(nodes) <= 2:
            up(int(nodes))
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
            sys.exit(f"{__doc__}\nNODES is 0 (control plane alone), 1 or 2.")


def up(nodes: int) -> None:
    """Have a cluster of so many nodes, started or found."""
    if given := _given_kubeconfig():
        print(
            f"KUBECONFIG names a cluster already ({given}); nothing is started. Unset it to have one made here."
        )
        return
    for cluster in running_clusters():
        if len(cluster.nodes) != nodes:
            raise Failure(f"a cluster with {_size(cluster)} is up; `make cluster-down` first")
        _introduce(cluster, "is up already")
        return
    packages.install()
    started = time.monotonic()
    cluster, _ = launch(nodes, ends_with_us=False, tell=print)
    _introduce(cluster, f"is up after {time.monotonic() - started:.0f} s")


def down() -> None:
    """Have no cluster, and nothing left of earlier ones."""
    places.clear_what_is_stale()
    for cluster in running_clusters():
        stop(cluster)
        print("the cluster is down, and nothing is left of it")


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


def _size(cluster: Cluster) -> str:
    return ["no node", "1 real node", "2 real nodes"][len(cluster.nodes)]


def _become(*command: str | Path) -> NoReturn:
    os.execvp(command[0], [str(each) for each in command])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Failure, Unavailable) as reason:
        sys.exit(f"kube: {reason}")
