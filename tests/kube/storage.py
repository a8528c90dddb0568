"""Shared storage of a test cluster: a volume, which any pod on any node may write, for each claim that waits for one.

`boot.py` starts it beside the control plane. It stands in for what a real cluster has, an NFS or Lustre provisioner.
Volumes are in memory, for the sake of their size: they are full when that is used up.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kubernetes.utils import parse_quantity

from .api import Api, Manifest
from .processes import again_and_again, run

STORAGE_CLASS = "shared"
PROVISIONER = "rljob.io/test-storage"
DEFAULT = "storageclass.kubernetes.io/is-default-class"
VOLUMES = "/api/v1/persistentvolumes"
PAUSE_S = 0.5


def provide(api: Api, folder: Path) -> None:
    """Make volumes for claims, as folders in `folder`, and remove those whose claims are gone. Never returns."""
    _create(api, "/apis/storage.k8s.io/v1/storageclasses", _storage_class())

    def look() -> None:
        for claim in _items(api, "/api/v1/persistentvolumeclaims"):
            if (
                claim["status"].get("phase") == "Pending"
                and claim["spec"].get("storageClassName") == STORAGE_CLASS
            ):
                _make(api, folder, claim)
        for volume in _items(api, VOLUMES):
            if (
                volume["status"].get("phase") == "Released"
                and volume["spec"]["storageClassName"] == STORAGE_CLASS
            ):
                _remove(api, volume)

    again_and_again(look, PAUSE_S)


def _make(api: Api, folder: Path, claim: Manifest) -> None:
    volume = _volume(folder, claim)
    path = Path(volume["spec"]["hostPath"]["path"])
    path.mkdir(parents=True, exist_ok=True)
    if not path.is_mount():
        size = int(parse_quantity(volume["spec"]["capacity"]["storage"]))
        # Open to all, as shared file systems are: fsGroup does not reach a hostPath.
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", path)
    _create(api, VOLUMES, volume)


def _remove(api: Api, volume: Manifest) -> None:
    if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
        path = Path(volume["spec"]["hostPath"]["path"])
        if path.is_mount():
            run("umount", "--lazy", path)
        path.rmdir()
        api.delete(f"{VOLUMES}/{volume['metadata']['name']}")


def _volume(folder: Path, claim: Manifest) -> Manifest:
    """A volume for this claim alone."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        # so marked, the controllers leave its removal to us
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {each: metadata[each] for each in ("namespace", "name", "uid")},
            "hostPath": {"path": str(folder / name)},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
        },
    }


def _storage_class() -> Manifest:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {DEFAULT: "true"}},
        "provisioner": PROVISIONER,
    }


def _items(api: Api, path: str) -> list[Manifest]:
    return list(api.get(path).body.get("items", []))


def _create(api: Api, path: str, manifest: Manifest) -> None:
    answer = api.post(path, manifest)
    if answer.code not in (201, 409):  # 409: it was made, and the claim is not yet bound
        raise RuntimeError(f"no {manifest['kind']}: {answer.message}")


if __name__ == "__main__":
    provide(Api.of(Path(sys.argv[1])), Path(sys.argv[2]))
