"""From a pod's manifest to what this machine must start: command, environment, files. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names
from .substitution import substitute
from .workdir import WorkDir


@dataclass(frozen=True)
class Container:
    """One container of a pod as a process of this machine."""

    name: str
    """Of the pod."""
    manifest: Manifest
    """Of the pod."""
    spec: Manifest
    """The container's part of it."""
    command: tuple[str, ...]
    env: Mapping[str, str]
    address: str
    ports: tuple[int, ...]
    gpus: int
    grace_seconds: int
    termination_log: Path
    log: Path


def containers(pod: Manifest, work_dir: WorkDir, machine: Mapping[str, str]) -> list[Container]:
    """Init containers in their order, each with a log of its own, then the pod's program.

    `machine`: paths and host names of a cluster, and what they are on this machine.
    """
    spec = pod["spec"]
    (program,) = spec["containers"]
    before = [(one, f".{one['name']}") for one in spec.get("initContainers", ())]
    return [_container(pod, one, suffix, work_dir, machine) for one, suffix in (*before, (program, ""))]


def _container(
    pod: Manifest, spec: Manifest, suffix: str, work_dir: WorkDir, machine: Mapping[str, str]
) -> Container:
    name = pod["metadata"]["name"]
    address = machine[f"{pod['spec']['hostname']}.{pod['spec']['subdomain']}"]
    termination_log = work_dir.pods / name / f"termination-log{suffix}"
    log_path = spec["terminationMessagePath"]
    places = {**mounts(pod, spec, work_dir), **machine, log_path: str(termination_log)}
    return Container(
        name=name,
        manifest=pod,
        spec=spec,
        command=tuple(
            _program(substitute(word, places)) for word in (*spec["command"], *spec.get("args", []))
        ),
        env={
            one["name"]: substitute(_value(one, pod, address, work_dir), places)
            for one in spec["env"]
            if not _from_this_machine(one, work_dir)
        },
        address=address,
        ports=tuple(port["containerPort"] for port in spec["ports"]),
        gpus=_gpus(spec),
        grace_seconds=pod["spec"]["terminationGracePeriodSeconds"],
        termination_log=termination_log,
        log=work_dir.logs / f"{name}{suffix}.log",
    )


def mounts(pod: Manifest, spec: Manifest, work_dir: WorkDir) -> dict[str, str]:
    """Mount path → directory, of the run and the storage. Other paths are this machine's own."""
    (run,) = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if volume["name"] == "run"]
    places = {"run": str(work_dir.config / run), "storage": str(work_dir.storage)}
    mounted = [mount for mount in spec["volumeMounts"] if mount["name"] in places]
    return {mount["mountPath"]: places[mount["name"]] for mount in mounted}


def _program(word: str) -> str:
    """`python3` of the image is the Python that runs `rljob`."""
    return sys.executable if word == "python3" else word


def _from_this_machine(variable: Manifest, work_dir: WorkDir) -> bool:
    """Home and caches are the user's own, and so is what a cluster has in a Secret."""
    match variable:
        case {"name": name, "value": value}:
            return (name, value) in {
                *names.WRITABLE_PLACES.items(),
                (names.CONVERSIONS_ENV, names.CONVERSIONS_PATH),
                ("PYTHONPATH", names.REWARD_PATH),
            }
        case {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}:
            return not Path(work_dir.config, secret, key).exists()
        case _:
            return False


def _value(variable: Manifest, pod: Manifest, address: str, work_dir: WorkDir) -> str:
    match variable:
        case {"value": value}:
            return str(value)
        case {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}:
            return Path(work_dir.config, secret, key).read_text()
        case _:
            fields = {"status.podIP": address, "metadata.name": pod["metadata"]["name"]}
            return str(fields[variable["valueFrom"]["fieldRef"]["fieldPath"]])


def _gpus(spec: Manifest) -> int:
    """Extended resources carry a slash in their name; a job asks for one kind."""
    limits = spec["resources"]["limits"]
    return sum(int(count) for name, count in limits.items() if "/" in name and "gpu" in name)


def machine_places(job: RLJob, work_dir: WorkDir, cache: Path, hosts: Mapping[str, str]) -> dict[str, str]:
    """What needs no mount: the job's own directory of the claim, that of the job it begins with, the user's cache, host
    names."""
    return {
        **_beside(job, work_dir),
        names.job_path(job.metadata.name): str(work_dir.storage),
        names.CACHE_PATH: str(cache),
        **hosts,
    }


def _beside(job: RLJob, work_dir: WorkDir) -> dict[str, str]:
    other = job.spec.initial_checkpoint and job.spec.initial_checkpoint.rljob_name
    if not other:
        return {}
    storage = str(WorkDir(work_dir.path.parent / other).storage)
    return {names.job_path(other): storage, names.initial_path(other): storage}
