"""The network of a cluster, inside its own network namespaces: a bridge, and a namespace a node.

The first node lives in the namespace of the control plane; each further node in one of its own, joined by a veth.
Pods of node i have addresses in 10.244.i.0/24.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .processes import Command, run

CONTROL_PLANE = "10.244.0.1"
BRIDGE = "br-kube"
PODS = "10.244.0.0/16"
PLUGINS = Path("/usr/lib/cni")


@dataclass(frozen=True)
class NodeNetwork:
    """Names and addresses of node `index`."""

    index: int

    @property
    def name(self) -> str:
        """Of the node, and of its network namespace."""
        return f"node{self.index}"

    @property
    def address(self) -> str:
        return CONTROL_PLANE if self.index == 0 else f"10.244.0.{200 + self.index}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def gateway(self) -> str:
        return f"10.244.{self.index}.1"

    @property
    def last_pod(self) -> str:
        return f"10.244.{self.index}.199"  # nodes come after

    @property
    def inside(self) -> Command:
        """Before a command: run it in the node's network namespace.

        Not `ip netns exec`, which mounts /sys anew: a kubelet then finds no cgroups.
        """
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]


def create_network(nodes: int) -> list[NodeNetwork]:
    """Fill the network namespace that we are in, and make one for each further node."""
    first, *others = [NodeNetwork(index) for index in range(max(nodes, 1))]
    run("ip", "netns", "attach", first.name, "1")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{CONTROL_PLANE}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    _route_pods(first)
    for node in others:
        _join(node)
    return [first, *others]


def _join(node: NodeNetwork) -> None:
    """Make the node's namespace, with an interface that sits on the bridge under the node's name."""
    run("ip", "netns", "add", node.name)
    run("ip", "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", node.name)
    run("ip", "link", "set", node.name, "master", BRIDGE, "up")
    for line in (
        "link set lo up",
        f"address add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {CONTROL_PLANE}",
    ):
        run(*node.inside, "ip", *line.split())
    run("ip", "route", "add", node.pods, "via", node.address)
    _route_pods(node)


def _route_pods(node: NodeNetwork) -> None:
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        run(*node.inside, "sysctl", "-qw", f"{name}=1")


def cni_config(node: NodeNetwork, addresses: Path) -> str:
    """How containerd connects the node's pods; which addresses are taken is kept in `addresses`."""
    pool = {"subnet": node.pods, "rangeEnd": node.last_pod, "gateway": node.gateway}
    ipam = {
        "type": "host-local",
        "ranges": [[pool]],
        "dataDir": str(addresses),
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "hairpinMode": True}
    plugins = [
        {**bridge, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "loopback"},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "kube", "plugins": plugins}, indent=2)
