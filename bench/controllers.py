"""Other controllers that create the pods of a job: kopf's own handlers, and JobSet's with Kubernetes' own for Jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.operators import Field
from kube.processes import Command, run, running
from kube.programs import Program, built, forget_compiled, programs
from rljob_operator.cluster.resources import JOBS, PODS
from waiting import until

HERE = Path(__file__).parent
JOBSET = Program("jobset", HERE / "jobset", "sigs.k8s.io/jobset", "-s -w")
JOBSETS = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{}/jobsets"
BATCH_JOBS = "/apis/batch/v1/namespaces/{}/jobs"
WEBHOOK_CERTIFICATES = "k8s-webhook-server/serving-certs"
"""Where controller-runtime looks for them, below the folder of temporary files. No webhook is asked here."""


@contextmanager
def kopf_handlers(field: Field) -> Iterator[None]:
    """Looks after RLJobs that are managed by `bench/kopf`."""
    sample = field.folder / "pod.json"
    sample.write_text(json.dumps(bare(field.sample[0])))
    env = {
        **os.environ,
        "KUBECONFIG": str(field.api.kubeconfig),
        "BENCH_POD": str(sample),
        "BENCH_URL": field.api.url,
        "BENCH_TOKEN": field.api.token,
        "BENCH_AUTHORITY": str(field.api.kubeconfig.with_name("ca.crt")),
    }
    words = ["run", "--standalone", f"--namespace={field.namespace}", str(HERE / "kopf_handlers.py")]
    log = field.folder / "kopf.log"
    with _process([sys.executable, "-m", "kopf", *words], env, log):
        until(lambda: "authentication has finished" in log.read_text(), log.read_text, 60)
        yield


def kopf_job(field: Field, name: str, pods: int) -> tuple[str, dict[str, Any]]:
    """Where to post what, so that the pods come about."""
    body = field.of_nodes(name, pods)
    body["spec"]["managedBy"] = "bench/kopf"
    return JOBS.path(field.namespace), body


@contextmanager
def jobset(field: Field) -> Iterator[None]:
    """JobSet's controller, and the one of Kubernetes that makes the pods of its Jobs.

    Raises `Unavailable` when JobSet cannot be built.
    """
    program = built(JOBSET)
    forget_compiled()
    _install_crd(field)
    temporary = field.folder / "tmp"
    certificates = temporary / WEBHOOK_CERTIFICATES
    certificates.mkdir(parents=True)
    kube = field.api.kubeconfig.parent
    for ours, theirs in (("kube-apiserver.crt", "tls.crt"), ("kube-apiserver.key", "tls.key")):
        (certificates / theirs).write_bytes((kube / ours).read_bytes())
    config = field.folder / "jobset.yaml"
    config.write_text(json.dumps(_configuration()))
    env = {**os.environ, "KUBECONFIG": str(field.api.kubeconfig), "TMPDIR": str(temporary)}
    flags = [f"--config={config}", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0"]
    log = field.folder / "jobset.log"
    with ExitStack() as stack:
        stack.enter_context(running(_job_controller(field), field.folder / "job-controller.log"))
        stack.enter_context(_process([str(program), *flags], env, log))
        until(lambda: "Starting workers" in log.read_text(), log.read_text, 60)
        yield


def jobset_job(field: Field, name: str, pods: int) -> tuple[str, dict[str, Any]]:
    """Where to post what, so that the pods come about: a Job of trainers, and one of a rollout server."""
    spec = bare(field.sample[0])["spec"] | {"restartPolicy": "Never"}
    body = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {  # its webhook would fill in some of it
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {"operator": "All"},
            "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
            "replicatedJobs": [
                _replicated("trainer", pods - 1, name, spec),
                _replicated("rollout", 1, name, spec),
            ],
        },
    }
    return JOBSETS.format(field.namespace), body


def remove_jobset(field: Field, name: str) -> None:
    """From the top down, as nobody collects garbage here."""
    gone = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    selector = f"?labelSelector=rljob.io/name={name}"
    field.api.send("DELETE", f"{JOBSETS.format(field.namespace)}/{name}", gone)
    jobs = BATCH_JOBS.format(field.namespace) + selector

    def is_gone() -> bool:
        field.api.send("DELETE", jobs, gone)
        field.api.send("DELETE", PODS.path(field.namespace) + selector, {**gone, "gracePeriodSeconds": 0})
        return not field.pods_of(name)

    until(is_gone, f"the pods of {name} are gone", 120, 0.5)


def bare(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod as it was before an API server had it, without name and owner."""
    labels = dict(pod["metadata"]["labels"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": pod["spec"]}


def _replicated(role: str, pods: int, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"labels": {"rljob.io/name": name}}
    template = {"metadata": metadata, "spec": {key: spec[key] for key in spec if key != "hostname"}}
    job = {"parallelism": pods, "completions": pods, "completionMode": "Indexed", "backoffLimit": 0}
    return {
        "name": role,
        "replicas": 1,
        "template": {"metadata": metadata, "spec": {**job, "template": template}},
    }


def _job_controller(field: Field) -> Command:
    """Asked for no limit of its own: by default it would send 20 requests a second."""
    program = programs("kube-controller-manager")["kube-controller-manager"]
    flags = ["--controllers=job", "--leader-elect=false", "--kube-api-qps=5000", "--kube-api-burst=5000"]
    return [program, f"--kubeconfig={field.api.kubeconfig}", "--secure-port=0", *flags]


def _configuration() -> dict[str, Any]:
    return {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "internalCertManagement": {"enable": False},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 5000, "burst": 5000},
    }


def _install_crd(field: Field) -> None:
    """Of the module's own version."""
    listed = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", JOBSET.package],
        cwd=JOBSET.module, capture_output=True, text=True, check=True,
    )  # fmt: skip
    crd = Path(listed.stdout.strip(), "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml")
    kubectl = programs("kubectl")["kubectl"]
    run(kubectl, "--kubeconfig", field.api.kubeconfig, "create", "-f", crd)
    path = JOBSETS.format(field.namespace)
    until(lambda: field.api.get(path).code == 200, "JobSets are served")


@contextmanager
def _process(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


__all__ = ["bare", "jobset", "jobset_job", "kopf_handlers", "kopf_job", "remove_jobset"]
