"""What a real node needs from the Linux distribution.

`python -m kube.packages` installs what is missing where it can, else says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .network import PLUGINS
from .programs import Unavailable, say

DEBIAN = {
    "busybox": "busybox-static",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
    "socat": "socat",
    "sysctl": "procps",
    str(PLUGINS / "bridge"): "containernetworking-plugins",
    # for images
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "skopeo": "skopeo",
}
"""Package of each program."""
FAILING_VOLUMES = {"fusermount3": "fuse3"}
"""What `tests/storage` needs beside them."""
DYNAMIC_LOADER = b"/ld-linux"


def missing(packages: Mapping[str, str] = DEBIAN) -> list[str]:
    """Packages that are not installed."""
    absent = {package for program, package in packages.items() if shutil.which(program) is None}
    busybox = shutil.which("busybox")
    if busybox and DYNAMIC_LOADER in Path(busybox).read_bytes():
        absent.add(DEBIAN["busybox"])  # this one needs libraries, and is to be alone in an image
    return sorted(absent)


def check() -> None:
    """Raises `Unavailable` with what to do when a node cannot run here."""
    if os.geteuid() != 0:
        raise Unavailable(
            "a real node needs root: run it again as root, or in a virtual machine in which you are"
        )
    if absent := missing():
        raise Unavailable(
            f"a real node needs: {' '.join(absent)} (`python -m kube.packages` installs them on Debian)"
        )


def install() -> None:
    """Install what is missing.

    Raises `Unavailable` where that is not ours to do.
    """
    absent = missing(DEBIAN | FAILING_VOLUMES)
    if not absent:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable(
            f"a real node needs these packages: {' '.join(absent)}; on Debian: apt-get install them"
        )
    say(f"installing {' '.join(absent)} ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "--yes", "--no-install-recommends"]
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", *options, *absent]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}")


if __name__ == "__main__":
    try:
        install()
    except Unavailable as reason:
        sys.exit(f"tests that need a real node will be skipped: {reason}")
