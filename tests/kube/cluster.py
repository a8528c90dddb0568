"""A real cluster that runs on this machine, as tests and `__main__.py` see it. `launch.py` starts it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import until

from .api import Api
from .network import NodeNetwork
from .places import Place
from .processes import Command, run
from .programs import programs

MARKS = {
    "kube-apiserver": "--audit-log-path={folder}/audit.log",
    "coredns": "{folder}/Corefile",
    "kubelet": "--root-dir={folder}/{node}/kubelet",
}
"""Programs of the cluster, and an argument that each of them alone has."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs on this machine. Everything here is called from outside its namespaces."""

    api: Api
    """We are cluster administrators."""
    nodes: tuple[str, ...]
    """Names of the real nodes: node0, node1 ..."""
    place: Place
    pid: int
    """The first process inside the cluster's namespaces, as this machine numbers it."""

    @classmethod
    def at(cls, place: Place, pid: int, nodes: int) -> Cluster:
        names = tuple(NodeNetwork(index).name for index in range(nodes))
        return cls(Api.of(place.run / "admin.kubeconfig"), names, place, pid)

    @property
    def kubeconfig(self) -> Path:
        """For `kubectl`, `helm` and any other client on this machine."""
        return self.api.kubeconfig

    @property
    def folder(self) -> Path:
        """Logs of the cluster's programs, and `audit.log`. Thrown away with the cluster."""
        return self.place.run

    def inside(self, node: str = "node0") -> Command:
        """Before a command: run it in the network of a node, from where pods and services can be reached.

        The process is otherwise like any of ours: same files, same process ids, ours to kill.
        """
        return ["nsenter", f"--net={self.from_outside(Path('/run/netns', node))}", "--"]

    def on_node(self, node: str = "node0") -> Command:
        """Before a command: run it where the node's own programs run, with their mounts and process ids as well."""
        enter: Command = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--"]
        return [*enter, "nsenter", f"--net=/run/netns/{node}", "--"]

    def run(self, *command: str | Path, node: str = "node0") -> str:
        """What a command says that runs in the network of a node.

        Raises `Failure` with what it says on stderr when it fails.
        """
        return run(*self.inside(node), *command)

    def kubectl(self, *arguments: str | Path) -> str:
        """What kubectl says.

        Raises `Failure` with what it says on stderr when it fails.
        """
        return run(programs("kubectl")["kubectl"], "--kubeconfig", self.kubeconfig, *arguments)

    def from_outside(self, path: Path) -> Path:
        """Where a path inside the cluster's namespaces is found from here, with what is mounted there."""
        return Path("/proc", str(self.pid), "root", path.relative_to("/"))

    def ctr(self, node: str = "node0") -> Command:
        """Before arguments of ctr, the client of the node's containerd."""
        socket = self.folder / node / "containerd.sock"
        return ["ctr", "--address", socket, "--namespace", "k8s.io"]

    def in_container(self, node: str, container: str) -> Command:
        """Before a command: run it in the network of a pod, by the id of one of its containers."""
        tasks = (line.split() for line in run(*self.ctr(node), "tasks", "list").splitlines())
        (pid,) = (pid for name, pid, *_ in tasks if name == container)
        return [*self.on_node(node), "nsenter", "--target", pid, "--net", "--"]

    def give_gpus(self, node: str, count: int, resource: str = "nvidia.com/gpu") -> None:
        """Let a node say that it has so many GPUs; the scheduler and the kubelet count them as they count real ones."""
        amounts = {resource: str(count)}
        answer = self.api.merge(
            f"/api/v1/nodes/{node}/status", {"status": {"capacity": amounts, "allocatable": amounts}}
        )
        assert answer.code == 200, answer.message

    def cut_off(self, node: str) -> None:
        """Take a node, but not node0, off the network: pods on it run on, and nobody hears of them."""
        self.run("ip", "link", "set", node, "down")

    def reconnect(self, node: str) -> None:
        """Undo `cut_off`."""
        self.run("ip", "link", "set", node, "up")

    @contextmanager
    def frozen(self, program: str, node: str = "node0") -> Iterator[None]:
        """In the block this program takes connections and answers nothing; see `MARKS`.

        Without a node's kubelet its pods run on, but nobody tells of them, and nothing is done to them.
        """
        pid = self._process(MARKS[program].format(folder=self.folder, node=node))
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _process(self, argument: str) -> int:
        """Id of the one that was started with it, as this machine numbers it."""
        mark = argument.encode()

        def marked() -> list[int]:
            """Also one that it has just forked, until that becomes another program."""
            lines = Path("/proc").glob("[0-9]*/cmdline")
            return [int(each.parent.name) for each in lines if mark in _words(each)]

        return until(lambda: found if len(found := marked()) == 1 else [], f"one process has {argument}")[0]

    def import_image(self, archive: Path) -> None:
        """Put the image of an OCI archive onto every real node, under the name that the archive gives it.

        Pods then need `imagePullPolicy: Never`.
        """
        for node in self.nodes:
            run(*self.ctr(node), "images", "import", archive)


def _words(command_line: Path) -> list[bytes]:
    """Of a process; none if it has ended."""
    try:
        return command_line.read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
