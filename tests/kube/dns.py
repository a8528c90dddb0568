"""The names of a cluster: CoreDNS as a process beside the control plane."""

from __future__ import annotations

from pathlib import Path

from .network import CONTROL_PLANE
from .node import CLUSTER_DOMAIN
from .processes import Command


def coredns(program: Path, folder: Path, identities: Path) -> Command:
    """CoreDNS, answering pods on the bridge; its configuration is written into `folder`."""
    corefile = folder / "Corefile"
    corefile.write_text(f"""\
.:53 {{
  bind {CONTROL_PLANE}
  errors
  kubernetes {CLUSTER_DOMAIN} {{
    kubeconfig {identities / "dns.kubeconfig"}
    ttl 1
  }}
}}
""")
    return [program, "-conf", corefile]
