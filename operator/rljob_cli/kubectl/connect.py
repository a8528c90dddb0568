"""Which cluster a command means: the kubeconfig's context, or the account of the pod that it runs in."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError

from ..errors import UserMistake

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(context: str | None) -> str:
    """Set the client up; the namespace to use by default.

    Raises `UserMistake` where there is no cluster to talk to.
    """
    try:
        config.load_kube_config(context=context)
        contexts, active = config.list_kube_config_contexts()
    except ConfigException as error:
        return _connect_from_inside(error)
    except (YAMLError, ValueError, TypeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserMistake(
            f"the kubeconfig cannot be read: {reason}; check the file, or set KUBECONFIG"
        ) from error
    _keep_alive()
    chosen = active if context is None else next(one for one in contexts if one["name"] == context)
    return str(chosen["context"].get("namespace") or "default")


def _connect_from_inside(error: ConfigException) -> str:
    try:
        config.load_incluster_config()
    except ConfigException:
        raise UserMistake(
            f"no cluster to talk to: {_reason(error)}; set KUBECONFIG, or check --context"
        ) from error
    _keep_alive()
    return ACCOUNT_NAMESPACE.read_text().strip()


def _reason(error: ConfigException) -> str:
    if "No configuration found" in str(error):  # which the library calls an invalid file
        return f"no kubeconfig was found at {config.KUBE_CONFIG_DEFAULT_LOCATION}"
    return str(error).rstrip(".")


def _keep_alive() -> None:
    """Connections on which the other end is asked now and then: of one that is gone a silent stream would not hear."""
    known = client.Configuration.get_default_copy()
    known.keep_alive = True
    client.Configuration.set_default(known)
