"""NetworkPolicies as nftables rules per pod address. Pure; `enforcer.py` applies them.

Only what the API promises: a pod that a policy selects is reached by, or reaches, what one of its policies names. Nodes
reach all their pods, as kubelets must.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .api import Manifest
from .selectors import selects

TABLE = "network_policies"
Direction = Literal["Ingress", "Egress"]
ENDED = ("Succeeded", "Failed")
REFUSED = ["    meta l4proto tcp reject with tcp reset", "    reject"]
"""Not dropped: who is refused knows at once, and a test need not wait. An ICMP message alone does not reach who is on
the same node, behind the same bridge."""


@dataclass(frozen=True)
class Cluster:
    """What rules follow from, as the API server lists it."""

    policies: list[Manifest]
    pods: list[Manifest]
    namespaces: list[Manifest]

    def pods_with_address(self) -> list[Manifest]:
        """Pods that have an address of their own, sorted by it."""
        own = [
            pod
            for pod in self.pods
            if pod["status"].get("podIP")
            and pod["status"].get("phase") not in ENDED
            and not pod["spec"].get("hostNetwork")
        ]
        return sorted(own, key=_address)

    def labels_of_namespace(self, name: str) -> dict[str, str]:
        found = [each["metadata"] for each in self.namespaces if each["metadata"]["name"] == name]
        return dict(found[0].get("labels", {})) if found else {}


def ruleset(cluster: Cluster) -> str:
    """Input of `nft -f`: replaces the whole table."""
    chains = [chain for pod in cluster.pods_with_address() for chain in _chains(cluster, pod)]
    jumps = [f"    ip {_end(direction)} {address} jump {name}" for direction, address, name, _ in chains]
    bodies = [line for _, _, name, rules in chains for line in (f"  chain {name} {{", *rules, "  }")]
    # bridged packets pass `forward` too; what a pod sends to its node passes `input`
    lines = [
        f"table ip {TABLE}",
        f"delete table ip {TABLE}",
        f"table ip {TABLE} {{",
        *bodies,
        "  chain pods {",
        "    ct state established,related return",
        *jumps,
        "  }",
        "  chain forward { type filter hook forward priority 10; jump pods; }",
        "  chain input { type filter hook input priority 10; jump pods; }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _chains(cluster: Cluster, pod: Manifest) -> list[tuple[Direction, str, str, list[str]]]:
    """For each direction in which the pod is isolated: the direction, its address, a name, and rules."""
    found: list[tuple[Direction, str, str, list[str]]] = []
    directions: tuple[Direction, ...] = ("Ingress", "Egress")
    for direction in directions:
        policies = [each for each in cluster.policies if _applies(each, pod, direction)]
        if policies:
            rules = [rule for each in policies for rule in _rules(cluster, each, pod, direction)]
            name = f"{direction.lower()}_{_address(pod).replace('.', '_')}"
            found.append((direction, _address(pod), name, [*rules, *REFUSED]))
    return found


def _applies(policy: Manifest, pod: Manifest, direction: Direction) -> bool:
    here = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    directed = direction in policy["spec"].get("policyTypes", ["Ingress"])
    return here and directed and selects(policy["spec"].get("podSelector", {}), _labels(pod))


def _rules(cluster: Cluster, policy: Manifest, pod: Manifest, direction: Direction) -> list[str]:
    """What the policy allows: `return` goes on to what the pod at the other end allows."""
    rules = []
    for rule in policy["spec"].get(direction.lower()) or []:
        peers = rule.get("from" if direction == "Ingress" else "to")
        for other, target in _ends(cluster, policy, pod, peers, direction):
            match = f"ip {'saddr' if direction == 'Ingress' else 'daddr'} {other} " if other else ""
            rules += [f"    {match}{port}return" for port in _ports(rule.get("ports"), target)]
    return rules


def _ends(
    cluster: Cluster, policy: Manifest, pod: Manifest, peers: list[Manifest] | None, direction: Direction
) -> list[tuple[str, Manifest]]:
    """Addresses of the other end, with the pod whose ports are meant. No address is any address."""
    if not peers:
        return [("", pod if direction == "Ingress" else {})]
    ends: list[tuple[str, Manifest]] = []
    for peer in peers:
        if block := peer.get("ipBlock"):
            except_for = "".join(
                f" ip {'saddr' if direction == 'Ingress' else 'daddr'} != {each}"
                for each in block.get("except", [])
            )
            ends.append((block["cidr"] + except_for, pod if direction == "Ingress" else {}))
        else:
            others = [each for each in cluster.pods_with_address() if _is_peer(cluster, policy, peer, each)]
            ends += [(_address(each), pod if direction == "Ingress" else each) for each in others]
    return ends


def _is_peer(cluster: Cluster, policy: Manifest, peer: Manifest, pod: Manifest) -> bool:
    """A peer without a selector of namespaces is one of the policy's own."""
    namespace = pod["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        near = selects(peer["namespaceSelector"], cluster.labels_of_namespace(namespace))
    else:
        near = namespace == policy["metadata"]["namespace"]
    return near and selects(peer.get("podSelector", {}), _labels(pod))


def _ports(ports: list[Manifest] | None, target: Manifest) -> list[str]:
    """Matches of ports; a name means that of a container of `target`. One that matches everything if none is given."""
    if not ports:
        return [""]
    matches = []
    for each in ports:
        protocol = each.get("protocol", "TCP").lower()
        if "port" not in each:
            matches.append(f"meta l4proto {protocol} ")
        for number in _numbers(each.get("port"), target):
            last = f"-{each['endPort']}" if "endPort" in each else ""
            matches.append(f"{protocol} dport {number}{last} ")
    return matches


def _numbers(port: int | str | None, target: Manifest) -> list[int]:
    if port is None or isinstance(port, int):
        return [] if port is None else [port]
    containers = target.get("spec", {}).get("containers", [])
    declared = [each for container in containers for each in container.get("ports", [])]
    return [each["containerPort"] for each in declared if each.get("name") == port]


def _end(direction: Direction) -> str:
    """Where in a packet the address of the isolated pod is."""
    return "daddr" if direction == "Ingress" else "saddr"


def _address(pod: Manifest) -> str:
    return str(pod["status"]["podIP"])


def _labels(pod: Manifest) -> dict[str, str]:
    return dict(pod["metadata"].get("labels", {}))
