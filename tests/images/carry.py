"""buildah's storage -> containerd, only what is new.

The way between is a folder in OCI's format. Once containerd has unpacked a layer, neither the folder nor containerd
needs its bytes any more. A file that is a hole of the same size remains in the folder, so that skopeo takes the layer
for written; and containerd is told that the image no longer refers to it. That halves the disk that images of many
gigabytes need, and makes a change of a small layer cost as little as the layer.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

from kube.processes import Failure, run

from . import buildah
from .containerd import Containerd

LAYER_LABEL = "containerd.io/gc.ref.content.l."


def carry(name: str, layout: Path, target: Containerd) -> None:
    """Let containerd have an image of buildah's storage. `layout` belongs to the same containerd for good."""
    (layout / "index.json").unlink(missing_ok=True)  # else this image would be added to the last one
    known = _blobs(layout)
    buildah.copy_to_layout(name, layout)
    manifest = _only(json.loads((layout / "index.json").read_text())["manifests"])["digest"]
    content = json.loads((layout / _path_of(manifest)).read_text())
    described = {manifest, content["config"]["digest"]}
    layers = {layer["digest"] for layer in content["layers"]} - known
    _import(target, layout, described | layers, "--no-unpack")
    for layer in layers:
        _make_hole(layout / _path_of(layer))
    _import(target, layout, described)
    _free_layers(target, manifest)


def forget_layers(layout: Path, but: list[str]) -> None:
    """To be called when containerd has forgotten them."""
    for digest in _blobs(layout) - set(but):
        (layout / _path_of(digest)).unlink()


def _import(target: Containerd, layout: Path, blobs: set[str], *options: str) -> None:
    """Hand over an OCI archive, which need not hold what containerd has already."""
    command = target.ctr("images", "import", *options, "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        with process.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|") as archive:
            for file in ("oci-layout", "index.json", *map(_path_of, blobs)):
                archive.add(layout / file, file)
        complaints = process.stderr.read().decode()
    if process.returncode:
        raise Failure(f"containerd did not take the image: {complaints}")


def _free_layers(target: Containerd, manifest: str) -> None:
    """After that, `collect_garbage` frees what the layers took before they were unpacked."""
    labels = [name for name in target.labels(manifest) if name.startswith(LAYER_LABEL)]
    run(*target.ctr("content", "label", manifest, *(f"{name}=" for name in labels)))


def _make_hole(file: Path) -> None:
    size = file.stat().st_size
    os.truncate(file, 0)
    os.truncate(file, size)


def _blobs(layout: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in layout.glob("blobs/sha256/*")}


def _path_of(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _only(items: list[dict[str, str]]) -> dict[str, str]:
    (item,) = items
    return item
