"""Makes NetworkPolicies hold on the nodes of a test cluster. `boot.py` starts it beside the control plane.

It stands in for the network plugin of a real cluster, and looks at the API server a few times a second.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .api import Api, Manifest
from .network_policies import Cluster, ruleset
from .processes import Failure, again_and_again

PAUSE_S = 0.5


def enforce(api: Api, nodes: list[str]) -> None:
    """Keep the rules of these nodes current. Never returns."""
    applied = ""

    def look() -> None:
        nonlocal applied
        rules = ruleset(_seen(api))
        if rules != applied:
            for node in nodes:
                _apply(node, rules)
            applied = rules

    again_and_again(look, PAUSE_S)


def _seen(api: Api) -> Cluster:
    return Cluster(
        policies=_items(api, "/apis/networking.k8s.io/v1/networkpolicies"),
        pods=_items(api, "/api/v1/pods"),
        namespaces=_items(api, "/api/v1/namespaces"),
    )


def _items(api: Api, path: str) -> list[Manifest]:
    answer = api.get(f"{path}?resourceVersion=0")  # what the API server remembers, without asking etcd
    if answer.code != 200:
        raise Failure(f"cannot list {path}: {answer.message}")
    return list(answer.body["items"])


def _apply(node: str, rules: str) -> None:
    command = ["nsenter", f"--net=/run/netns/{node}", "--", "nft", "--file", "-"]
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"nft: {done.stderr}\n{rules}")


if __name__ == "__main__":
    enforce(Api.of(Path(sys.argv[1])), sys.argv[2:])
