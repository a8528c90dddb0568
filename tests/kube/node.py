"""A full node: containerd, kubelet and kube-proxy. `boot.py` starts it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .network import CONTROL_PLANE, PLUGINS, PODS, NodeNetwork, cni_config
from .processes import Command

CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Node:
    """A node, and where its files are."""

    network: NodeNetwork
    folder: Path
    images: Path
    """The root of its containerd."""
    cgroup: str
    identities: Path

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def socket(self) -> Path:
        return self.folder / "containerd.sock"

    @property
    def inside(self) -> Command:
        return self.network.inside

    def ctr(self, *arguments: str | Path) -> Command:
        return ["ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments]

    def write_files(self) -> None:
        cni = self.folder / "cni"
        cni.mkdir(parents=True)
        (cni / "10-kube.conflist").write_text(cni_config(self.network, self.folder / "addresses"))
        (self.folder / "containerd.toml").write_text(_containerd_config(self))
        (self.folder / "kubelet.json").write_text(json.dumps(_kubelet_config(self), indent=2))

    def containerd(self) -> Command:
        return [*self.inside, "containerd", "--config", self.folder / "containerd.toml"]

    def kubelet(self, program: Path) -> Command:
        return [
            *self.inside,
            program,
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={self.identities / f'{self.name}.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.network.address}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet' / 'pki'}",
            "--v=1",
        ]

    def kube_proxy(self, program: Path) -> Command:
        return [
            *self.inside,
            program,
            f"--kubeconfig={self.identities / 'kube-proxy.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--cluster-cidr={PODS}",
            "--proxy-mode=iptables",
            "--conntrack-max-per-core=0",  # the machine's own setting stays
        ]


def _kubelet_config(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.identities / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "clusterDNS": [CONTROL_PLANE],
        "clusterDomain": CLUSTER_DOMAIN,
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeLeaseDurationSeconds": 8,  # it is renewed every 2 s: a lost node is soon known to be
        "podLogsDir": str(node.folder / "logs"),
        "resolvConf": "",  # pods do not see the names that this machine knows
        "volumePluginDir": str(node.folder / "volume-plugins"),
    }


def _containerd_config(node: Node) -> str:
    """Without `restrict_oom_score_adj`, roots that lack CAP_SYS_RESOURCE cannot start a sandbox."""
    return f"""\
version = 2
root = "{node.images}"
state = "{node.folder / "containerd"}"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{node.folder / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
