"""`python -m rljob_operator`: the operator's process, in a cluster or beside one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from kubernetes.aio.config import ConfigException
from prometheus_client import REGISTRY
from pydantic import ValidationError

from . import logs
from .cluster.client import Client, configuration
from .handlers import Shell
from .job_metrics import JobMetrics
from .leader import Leader, Terms
from .memory import give_back_freed_memory, seldom_look_for_cycles
from .run_cluster import Operator
from .serving import serving
from .settings import ENV, Settings, read_settings

EXIT_MISTAKE = 2


class WrongSettingsError(Exception):
    """Says the file, each field, and what is allowed."""


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0 when told to stop, 2 after a mistake in what was given."""
    given = _arguments().parse_args(words)
    logs.set_up(given.log_level)
    give_back_freed_memory()
    seldom_look_for_cycles()
    try:
        asyncio.run(_until_told(given, _settings(given)))
    except (WrongSettingsError, ConfigException, OSError) as error:
        print(f"rljob-operator: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rljob-operator", description="Looks after the RLJobs of a cluster.")
    parser.add_argument("--settings", type=Path, help=f"settings file (JSON); else ${ENV}, else defaults")
    parser.add_argument(
        "--namespace", action="append", help="look after this namespace only; may be repeated"
    )
    parser.add_argument("--kubeconfig", type=Path, help="else the pod's own account, else $KUBECONFIG")
    parser.add_argument("--lease-namespace", default=os.environ.get("POD_NAMESPACE", "default"))
    parser.add_argument("--lease", default="rljob-operator", help="name of the Lease that decides who leads")
    parser.add_argument(
        "--lease-seconds", type=float, default=15.0, help="after so long a silent leader is replaced"
    )
    parser.add_argument(
        "--identity", default=os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    )
    parser.add_argument("--http-host", default="0.0.0.0", help="address of /metrics, /healthz and /readyz")
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    file = given.settings or (Path(os.environ[ENV]) if os.environ.get(ENV) else None)
    try:
        settings = read_settings(file)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()
        )
        raise WrongSettingsError(f"{file}: {told}") from error
    return settings.model_copy(update={"namespaces": given.namespace}) if given.namespace else settings


async def _until_told(given: argparse.Namespace, settings: Settings) -> None:
    """Until SIGINT or SIGTERM."""
    terms = Terms(
        given.lease_namespace, given.lease, given.identity, given.lease_seconds, given.lease_seconds / 3
    )
    account = await configuration(given.kubeconfig)
    shell = Shell(account, settings.namespaces)
    async with (
        Client(account) as client,
        Client(account) as own,  # no wait for jobs' requests may cost the lease
        serving(given.http_host, given.http_port, lambda: shell.well),
    ):
        operator = Operator(client, Leader(own, terms), settings, shell)
        REGISTRY.register(JobMetrics(lambda: operator.jobs))
        work = asyncio.create_task(operator.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work


if __name__ == "__main__":
    sys.exit(main())
