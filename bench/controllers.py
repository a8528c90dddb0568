"""Other controllers that create the pods of a job: kopf's own handlers, and JobSet's with Kubernetes' own for Jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.operators import Field
from kube.api import Manifest
from kube.processes import Command, run, running
from kube.programs import Program, built, forget_compiled, programs
from ports import free_port
from rljob_api.failure import RoleName
from rljob_operator.cluster.resources import JOBS
from rljob_operator.names import LABEL_NAME, LABEL_ROLE
from waiting import until

HERE = Path(__file__).parent
JOBSET = Program("jobset", HERE / "jobset", "sigs.k8s.io/jobset", "-s -w")
JOBSETS = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{}/jobsets"
BATCH_JOBS = "/apis/batch/v1/namespaces/{}/jobs"
FOREIGN = "bench/job"
"""The label that says whose a pod is that the operator did not make: it watches all that have its own."""


@contextmanager
def kopf_handlers(field: Field) -> Iterator[None]:
    """Looks after RLJobs that are managed by `bench/kopf`."""
    sample = field.folder / "pod.json"
    sample.write_text(json.dumps(foreign(_trainer(field), "")))
    env = {
        "KUBECONFIG": str(field.api.kubeconfig),
        "BENCH_POD": str(sample),
        "BENCH_URL": field.api.url,
        "BENCH_TOKEN": field.api.token,
        "BENCH_AUTHORITY": str(field.api.kubeconfig.with_name("ca.crt")),
    }
    words = ["run", "--standalone", f"--namespace={field.namespace}", str(HERE / "kopf_handlers.py")]
    log = field.folder / "kopf.log"
    with running(_with(env, [sys.executable, "-m", "kopf", *words]), log):
        until(lambda: "authentication has finished" in log.read_text(), log.read_text, 60)
        yield


def kopf_job(field: Field, name: str, pods: int) -> tuple[str, Manifest]:
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
    config = field.folder / "jobset.yaml"
    config.write_text(json.dumps(_configuration(_certificates(field))))
    flags = [f"--config={config}", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0"]
    command = _with({"KUBECONFIG": str(field.api.kubeconfig)}, [program, *flags])
    log = field.folder / "jobset.log"
    with ExitStack() as stack:
        stack.enter_context(running(_job_controller(field), field.folder / "job-controller.log"))
        stack.enter_context(running(command, log))
        until(lambda: "Starting workers" in log.read_text(), log.read_text, 60)
        yield


def jobset_job(field: Field, name: str, pods: int) -> tuple[str, Manifest]:
    """Where to post what, so that the pods come about: a Job of trainers, and one of a rollout server."""
    spec = _trainer(field)["spec"] | {"restartPolicy": "Never"}
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
    field.api.send("DELETE", f"{JOBSETS.format(field.namespace)}/{name}", gone)
    selector = f"{FOREIGN}={name}"
    jobs = f"{BATCH_JOBS.format(field.namespace)}?labelSelector={selector}"

    def no_jobs() -> bool:
        field.api.send("DELETE", jobs, gone)
        return not field.api.get(jobs).body["items"]

    until(no_jobs, f"the Jobs of {name} are gone", 120, 0.1)
    field.remove_pods(selector)


def foreign(pod: Manifest, job: str) -> Manifest:
    """A pod as it was before an API server had it, as one of `job` that the operator does not know."""
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if key != LABEL_NAME}
    name = f"{job}-{pod['metadata']['name']}"
    metadata = {"name": name, "labels": {**labels, FOREIGN: job}}
    annotations = pod["metadata"].get("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "annotations": annotations},
        "spec": pod["spec"],
    }


def _trainer(field: Field) -> Manifest:
    pods = (pod for pod in field.sample if pod["metadata"]["labels"][LABEL_ROLE] == RoleName.TRAINER)
    return next(pods)


def _replicated(role: str, pods: int, name: str, spec: Manifest) -> Manifest:
    metadata = {"labels": {FOREIGN: name}}
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


def _configuration(certificates: Path) -> Manifest:
    """Its webhook listens for nobody: none is registered here."""
    return {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "internalCertManagement": {"enable": False},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 5000, "burst": 5000},
        "webhook": {"host": "127.0.0.1", "port": free_port(), "certDir": str(certificates)},
    }


def _certificates(field: Field) -> Path:
    """A folder with what it would show to an API server."""
    folder, kube = field.folder / "webhook", field.api.kubeconfig.parent
    folder.mkdir()
    for ours, theirs in (("kube-apiserver.crt", "tls.crt"), ("kube-apiserver.key", "tls.key")):
        (folder / theirs).write_bytes((kube / ours).read_bytes())
    return folder


def _with(env: dict[str, str], command: Command) -> Command:
    return ["env", *(f"{name}={value}" for name, value in env.items()), *command]


def _install_crd(field: Field) -> None:
    """Of the module's own version."""
    listed = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", JOBSET.package],
        cwd=JOBSET.module,
        capture_output=True,
        text=True,
        check=True,
    )
    crd = Path(listed.stdout.strip(), "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml")
    kubectl = programs("kubectl")["kubectl"]
    run(kubectl, "--kubeconfig", field.api.kubeconfig, "create", "-f", crd)
    path = JOBSETS.format(field.namespace)
    until(lambda: field.api.get(path).code == 200, "JobSets are served")
