"""buildah and skopeo, with a storage of our own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kube.processes import run
from kube.programs import cache

RUN_ROOT = Path("/run/rljob-images")
"""What buildah mounts at the moment: must not outlive the machine's start."""


def folder() -> Path:
    """Where all that concerns images is kept."""
    path = cache() / "images"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder beside the others, removed with the block."""
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder(), ignore_cleanup_errors=True) as name:
        yield Path(name)


def build(*arguments: str | Path) -> str:
    """Build a Dockerfile; the new image's id. Steps that were done before are taken from the cache.

    Raises `Failure` with the end of what the build said.
    """
    id_file = folder() / "id"
    _buildah("bud", "--layers", "--isolation=chroot", f"--iidfile={id_file}", *arguments)
    return id_file.read_text().removeprefix("sha256:")


def has(name: str) -> bool:
    """Whether there is an image of this name."""
    return name in _names()


def layers(name: str) -> list[str]:
    """Digests of an image's layers, the lowest first."""
    return _buildah(
        "inspect", "--type=image", "--format={{range .OCIv1.RootFS.DiffIDs}}{{.}} {{end}}", name
    ).split()


def tag(image: str, name: str) -> None:
    _buildah("tag", image, name)


def remove_all_but(names: list[str]) -> None:
    """Remove images of other names, and layers that no image of these names is made of."""
    for name in _names() - set(names):
        _buildah("rmi", "--force", name)


def copy_to_layout(name: str, layout: Path) -> None:
    """Write an image as a folder in OCI's format. A blob that lies there is not written again."""
    storage = f"[overlay@{_storage()}+{RUN_ROOT}]"
    options = ["--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers"]
    _run("skopeo", "copy", *options, f"containers-storage:{storage}{name}", f"oci:{layout}:{name}")


def _names() -> set[str]:
    listed = _buildah("images", "--noheading", "--format={{.Name}}:{{.Tag}}").split()
    return {name for name in listed if name.startswith("localhost/")}  # others have none, and serve as cache


def _storage() -> Path:
    return folder() / "storage"


def _buildah(*arguments: str | Path) -> str:
    storage = ["--storage-driver=overlay", f"--root={_storage()}", f"--runroot={RUN_ROOT}"]
    return _run("buildah", *storage, *arguments)


def _run(*command: str | Path) -> str:
    """Temporary files, which are as large as images, lie beside what they become."""
    temporary = folder() / "tmp"
    temporary.mkdir(exist_ok=True)
    return run("env", f"TMPDIR={temporary}", *command)
