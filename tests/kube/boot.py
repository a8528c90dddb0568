"""The first process inside a cluster's namespaces: it starts all others, and stays. `cluster.py` starts it.

When it is killed, the kernel kills every process in its process namespace, pods among them; mounts, interfaces and
firewall rules go with the other namespaces. So stopping a cluster is one kill, whatever state it is in.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroups
from .api import Api
from .control_plane import (
    Ports,
    api_flags,
    controller_flags,
    etcd_flags,
    flags_for_nodes,
    scheduler_flags,
    wait_until_ready,
)
from .covers import cover
from .dns import coredns
from .identities import write_identities
from .network import CONTROL_PLANE, NodeNetwork, create_network
from .node import Node
from .places import Place
from .processes import Command, Failure, run, start, wait_until
from .programs import programs
from .small_images import write_small_images

CONTROL_PLANE_PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
NODE_PROGRAMS = ["kubelet", "kube-proxy", "coredns"]
REAL_NODE_IS_LOST_AFTER_S = 12
FAKE_NODE_IS_LOST_AFTER_S = 24 * 3600
SERVICE_ADDRESS = "10.96.0.1"


@dataclass
class Machine:
    """A place in which a cluster is being started."""

    place: Place
    programs: dict[str, Path]
    started: dict[int, str] = field(default_factory=dict)
    """Name of each process, by its id."""

    @property
    def folder(self) -> Path:
        return self.place.run

    def start(self, name: str, command: Command) -> subprocess.Popen[bytes]:
        process = start(command, self.log(name))
        self.started[process.pid] = name
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def boot(place: Place, nodes: int) -> None:
    """Start a cluster of so many nodes in the namespaces that we are in.

    Raises `Failure` when one of its programs does not start.
    """
    machine = Machine(place, programs(*CONTROL_PLANE_PROGRAMS, *(NODE_PROGRAMS if nodes else [])))
    cover(place)
    networks = create_network(nodes)
    cgroups.create(place.cgroup)
    cgroups.join(f"{place.cgroup}/programs")
    _say("network is up")
    lost_after_s = REAL_NODE_IS_LOST_AFTER_S if nodes else FAKE_NODE_IS_LOST_AFTER_S
    _start_control_plane(machine, networks, lost_after_s)
    for each in networks[:nodes]:
        _start_node(machine, each)
    if nodes:
        _start_services(machine, networks)
    (machine.folder / "started").touch()
    _stay(machine)


def _start_control_plane(machine: Machine, networks: list[NodeNetwork], lost_after_s: int) -> None:
    folder, ports, found = machine.folder, Ports(), machine.programs
    near, on_bridge = f"https://127.0.0.1:{ports.api}", f"https://{CONTROL_PLANE}:{ports.api}"
    far = f"https://{machine.place.far}:{ports.api}"
    urls = {"admin": far, "system:kube-controller-manager": near, "system:kube-scheduler": near}
    urls |= {"system:kube-proxy": on_bridge}
    urls |= {f"test:{each}": near for each in ("dns", "storage", "network-policies")}
    urls |= {f"system:node:{each.name}": on_bridge for each in networks}
    addresses = ["127.0.0.1", CONTROL_PLANE, SERVICE_ADDRESS, machine.place.far]
    write_identities(folder, urls, addresses)
    machine.start("etcd", [found["etcd"], *etcd_flags(folder, ports)])
    flags = [*api_flags(folder, ports), *flags_for_nodes(folder, CONTROL_PLANE)]
    server = machine.start("kube-apiserver", [found["kube-apiserver"], *flags])
    wait_until_ready(Api.of(folder / "kube-scheduler.kubeconfig"), server, machine.log("kube-apiserver"))
    _say("API server is ready")
    controllers = controller_flags(folder, lost_after_s)
    machine.start("kube-controller-manager", [found["kube-controller-manager"], *controllers])
    machine.start("kube-scheduler", [found["kube-scheduler"], *scheduler_flags(folder)])


def images_of(place: Place, network: NodeNetwork) -> Path:
    """Where the node's containerd keeps images. It may have some before the cluster starts."""
    return place.run / network.name / "images"


def _start_node(machine: Machine, network: NodeNetwork) -> None:
    place = machine.place
    cgroup = f"{place.cgroup}/{network.name}"
    node = Node(network, machine.folder / network.name, images_of(place, network), cgroup, machine.folder)
    cgroups.create(cgroup)
    node.write_files()
    name = f"containerd-{network.name}"
    containerd = machine.start(name, node.containerd())
    wait_until(lambda: _answers(node), "containerd answers", 300, containerd, machine.log(name))
    for archive in write_small_images(node.folder):
        run(*node.ctr("images", "import", archive))
    machine.start(f"kubelet-{network.name}", node.kubelet(machine.programs["kubelet"]))
    machine.start(f"kube-proxy-{network.name}", node.kube_proxy(machine.programs["kube-proxy"]))
    _say(f"{network.name}: containerd, kubelet and kube-proxy run")


def _start_services(machine: Machine, nodes: list[NodeNetwork]) -> None:
    """What pods expect of a cluster beside the control plane: names, storage, and a network that keeps policies."""
    folder, python = machine.folder, Path(sys.executable)
    dns = machine.start("coredns", coredns(machine.programs["coredns"], folder, folder))
    storage: Command = ["-m", "kube.storage", folder / "storage.kubeconfig", folder / "volumes"]
    machine.start("storage", [python, *storage])
    policies: Command = ["-m", "kube.enforcer", folder / "network-policies.kubeconfig"]
    machine.start("network-policies", [python, *policies, *(each.name for each in nodes)])
    wait_until(_has_dns, "CoreDNS answers", 300, dns, machine.log("coredns"))


def _has_dns() -> bool:
    try:
        socket.create_connection((CONTROL_PLANE, 53), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(node: Node) -> bool:
    return subprocess.run(node.ctr("version"), capture_output=True, check=False).returncode == 0


def _stay(machine: Machine) -> None:
    """Be told of each process that ends, ours and those whose parents ended, for as long as we live."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if name := machine.started.pop(pid, None):
            last_words = machine.log(name).read_text()[-1000:]
            _say(f"{name} ended with {os.waitstatus_to_exitcode(status)}: {last_words}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        boot(Place(int(sys.argv[1])), nodes=int(sys.argv[2]))
    except Failure as failure:
        sys.exit(str(failure))
