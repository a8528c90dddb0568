"""Certificate authorities that an administrator has pods trust, for example that of a proxy which opens TLS."""

from __future__ import annotations

from typing import NamedTuple

from rljob_api.base import Manifest

from .. import names
from ..settings import JobDefaults

FILE = "ca.crt"
TRUSTED_BY = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Read by OpenSSL, httpx, Go and rustls; and by requests, which has a bundle of its own otherwise."""


class Authority(NamedTuple):
    """What it adds to every container, and to its pod."""

    env: tuple[Manifest, ...] = ()
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()


def authority(defaults: JobDefaults) -> Authority:
    """Nothing without `jobDefaults.caConfigMap`: the image's own are trusted."""
    bundle = defaults.ca_config_map
    if bundle is None:
        return Authority()
    file = {"name": bundle.name, "items": [{"key": bundle.key, "path": FILE}]}
    return Authority(
        env=tuple({"name": name, "value": f"{names.AUTHORITY_PATH}/{FILE}"} for name in TRUSTED_BY),
        volumes=({"name": names.AUTHORITY_VOLUME, "configMap": file},),
        mounts=({"name": names.AUTHORITY_VOLUME, "mountPath": names.AUTHORITY_PATH, "readOnly": True},),
    )
