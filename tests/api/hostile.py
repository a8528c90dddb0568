"""Jobs by somebody who means harm, or errs badly: those that are refused, and those whose pods are harmless."""

from __future__ import annotations

from typing import Any, NamedTuple

from api.jobs import job, spec
from rljob_api.base import Manifest

LONGEST_INTEGER = 2**63 - 1


class Refusal(NamedTuple):
    """A job, and words of the API server's answer."""

    job: Manifest
    words: str


def trainer(**fields: Any) -> Manifest:
    return job(spec_=spec(trainer=fields))


def pod_spec(**fields: Any) -> Manifest:
    """A job whose trainers' template says so."""
    return trainer(template={"spec": fields})


def metadata(**fields: Any) -> Manifest:
    return trainer(template={"metadata": fields})


def volume(**source: Any) -> Manifest:
    return pod_spec(volumes=[{"name": "mine", **source}])


def mount(path: str, **fields: Any) -> Manifest:
    volumes = [{"name": "mine", "emptyDir": {}}]
    return trainer(
        template={"spec": {"volumes": volumes}},
        volumeMounts=[{"name": "mine", "mountPath": path, **fields}],
    )


def limits(**entries: Any) -> Manifest:
    return trainer(resources={"limits": entries})


def env(**variable: Any) -> Manifest:
    return trainer(env=[variable])


def vllm(*arguments: str) -> Manifest:
    return job(spec_=spec(rollout={"vllm": {"extraArgs": list(arguments)}}))


def named(name: str, **more: Any) -> Manifest:
    whole = job(name)
    return {**whole, "metadata": {**whole["metadata"], **more}}


def storage(**fields: Any) -> Manifest:
    return job(spec_=spec(checkpoint={"storage": fields}))


KINDS = "set exactly one of"
TAKEN = "choose another"
SHAPE = "should match"

REFUSED: dict[str, Refusal] = {
    # more of the node than a pod may have
    "a host path": Refusal(volume(hostPath={"path": "/"}), KINDS),
    "a host path beside a good volume": Refusal(
        pod_spec(volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]), KINDS
    ),
    "a network file system": Refusal(volume(nfs={"server": "10.0.0.1", "path": "/"}), KINDS),
    "a volume plug-in": Refusal(volume(csi={"driver": "secrets-store.csi.k8s.io"}), KINDS),
    "an iSCSI disk": Refusal(volume(iscsi={"targetPortal": "10.0.0.1"}), KINDS),
    "a token for the API server": Refusal(
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}), KINDS
    ),
    "labels of the pod as files": Refusal(volume(downwardAPI={}), KINDS),
    "a volume from a template of a claim": Refusal(volume(ephemeral={}), KINDS),
    "a volume of two kinds": Refusal(volume(emptyDir={}, secret={"secretName": "a"}), KINDS),
    "huge pages as a medium": Refusal(volume(emptyDir={"medium": "HugePages"}), "Unsupported value"),
    "a mount over the run": Refusal(mount("/etc/rljob"), TAKEN),
    "a mount over the checkpoints": Refusal(mount("/var/lib/rljob/jobs/a"), TAKEN),
    "a mount above the checkpoints": Refusal(mount("/var/lib"), TAKEN),
    "a mount over a token": Refusal(mount("/var/run/secrets/kubernetes.io/serviceaccount"), TAKEN),
    "a mount over devices": Refusal(mount("/dev"), TAKEN),
    "a mount over the kernel": Refusal(mount("/proc/sys"), TAKEN),
    "a mount over the root": Refusal(mount("/"), SHAPE),
    "a mount that climbs": Refusal(mount("/data/../etc/rljob"), SHAPE),
    "a mount that is relative": Refusal(mount("etc/rljob"), SHAPE),
    "a mount with a colon": Refusal(mount("/data:/etc"), SHAPE),
    "a sub-path that climbs": Refusal(mount("/data", subPath="../../etc"), SHAPE),
    "a sub-path from the root": Refusal(mount("/data", subPath="/etc"), SHAPE),
    "a mount of the operator's volume": Refusal(
        trainer(volumeMounts=[{"name": "storage", "mountPath": "/others"}]), "must be that of a volume"
    ),
    "the operator's volume replaced": Refusal(
        pod_spec(volumes=[{"name": "run", "configMap": {"name": "other-run-1"}}]), "rename yours"
    ),
    "one volume twice": Refusal(
        pod_spec(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]), "Duplicate value"
    ),
    # others' things
    "a Secret of another namespace": Refusal(volume(secret={"secretName": "kube-system/admin"}), SHAPE),
    "a claim of another namespace": Refusal(
        volume(persistentVolumeClaim={"claimName": "../other/claim"}), SHAPE
    ),
    "a claim name that climbs": Refusal(storage(claimName="../../x"), SHAPE),
    "a Secret's key that is a path": Refusal(
        env(name="A", valueFrom={"secretKeyRef": {"name": "a", "key": "../b"}}), SHAPE
    ),
    "a file that climbs": Refusal(
        volume(configMap={"name": "a", "items": [{"key": "k", "path": "../../etc/passwd"}]}), SHAPE
    ),
    "a value and a Secret": Refusal(
        env(name="A", value="b", valueFrom={"secretKeyRef": {"name": "a", "key": "b"}}), "not both"
    ),
    "a field of the pod as a value": Refusal(
        env(name="A", valueFrom={"fieldRef": {"fieldPath": "spec.nodeName"}}), "Required value"
    ),
    "the label of another job": Refusal(metadata(labels={"rljob.io/name": "victim"}), "set by the operator"),
    "the label of another role": Refusal(
        metadata(labels={"rljob.io/role": "trainer"}), "set by the operator"
    ),
    "the label of another application": Refusal(
        metadata(labels={"app.kubernetes.io/instance": "victim"}), "set by the operator"
    ),
    "an annotation that unconfines": Refusal(
        metadata(annotations={"container.apparmor.security.beta.kubernetes.io/trainer": "unconfined"}),
        "loosens",
    ),
    "an annotation that adds devices": Refusal(
        metadata(annotations={"io.kubernetes.cri-o.Devices": "/dev/mem"}), "loosens"
    ),
    "the priority of the system": Refusal(
        pod_spec(priorityClassName="system-node-critical"), "cluster's own"
    ),
    "the operator's run file": Refusal(env(name="RLJOB_RUN_FILE", value="/tmp/mine"), "set by the operator"),
    "the operator's token": Refusal(env(name="RLJOB_CONTROL_TOKEN", value="known"), "set by the operator"),
    "the address of another pod": Refusal(env(name="POD_IP", value="10.0.0.1"), "set by the operator"),
    # vLLM's own doors
    "vLLM without the guard": Refusal(vllm("--middleware", "mine.open"), "set by the operator"),
    "vLLM at another address": Refusal(vllm("--host=0.0.0.0"), "set by the operator"),
    "vLLM with another model": Refusal(vllm("--mod", "stranger/model"), "set by the operator"),
    "vLLM with underscores": Refusal(vllm("--worker_extension_cls=mine.Worker"), "set by the operator"),
    "vLLM with code of the model": Refusal(vllm("--trust-remote-code"), "set by the operator"),
    "vLLM with a file of arguments": Refusal(vllm("--config", "/data/x.yaml"), "set by the operator"),
    # numbers
    "more nodes than there are": Refusal(trainer(numNodes=10_001), "less than or equal to 10000"),
    "nodes beyond counting": Refusal(trainer(numNodes=LONGEST_INTEGER), "less than or equal to"),
    "no node": Refusal(trainer(numNodes=0), "greater than or equal to 1"),
    "fewer GPUs than none": Refusal(trainer(gpusPerNode=-1), "greater than or equal to 0"),
    "servers beyond counting": Refusal(
        job(spec_=spec(rollout={"replicas": 1_000_000})), "less than or equal to 4096"
    ),
    "a deadline in the past": Refusal(job(spec_=spec(activeDeadlineSeconds=-5)), "greater than or equal to"),
    "a life beyond time": Refusal(
        job(spec_=spec(ttlSecondsAfterFinished=LONGEST_INTEGER)), "less than or equal to"
    ),
    "a claim below nothing": Refusal(storage(size="-1Gi"), SHAPE),
    "a quantity with an exponent": Refusal(limits(memory="1e9"), SHAPE),
    "a quantity in prose": Refusal(limits(memory="a lot"), SHAPE),
    "GPUs past the accelerator": Refusal(limits(**{"nvidia.com/gpu": "8"}), "accelerators come from"),
    "a resource that is none": Refusal(limits(gpus="8"), "accelerators come from"),
    "a thousand variables": Refusal(
        trainer(env=[{"name": f"A{number}"} for number in range(1000)]), "must have at most 128 items"
    ),
    "a value of a megabyte": Refusal(env(name="A", value="x" * 1_000_000), "may not be more than 4096"),
    "a label value of 64 characters": Refusal(metadata(labels={"a": "x" * 64}), "may not be more than 63"),
    # letters
    "a name in Cyrillic that looks Latin": Refusal(named("m\u0430th"), "metadata.name"),
    "a name with a dot": Refusal(named("math.8b"), "pods and services carry it"),
    "a name with a trailing dash": Refusal(named("math-"), "metadata.name"),
    "a name that begins with a digit": Refusal(named("8b"), "pods and services carry it"),
    "a name of 41 characters": Refusal(named("a" * 41), "at most 40"),
    "a label key with a space": Refusal(metadata(labels={"a b": "c"}), "is none"),
    "a label value that wraps right to left": Refusal(metadata(labels={"a": "\u202egood"}), SHAPE),
    "a variable with a line break": Refusal(env(name="A\nB", value="c"), SHAPE),
    "a module that is a path": Refusal(
        job(spec_=spec(reward={"python": {"module": "../evil", "function": "f"}})), SHAPE
    ),
    "a function that is code": Refusal(
        job(spec_=spec(reward={"python": {"module": "m", "function": "f(); g"}})), SHAPE
    ),
}

HARMLESS: dict[str, Manifest] = {
    # what is not in the schema is dropped
    "the host's network": pod_spec(hostNetwork=True),
    "the host's processes": pod_spec(hostPID=True, hostIPC=True, shareProcessNamespace=True),
    "a chosen node": pod_spec(nodeName="control-plane"),
    "a token mounted": pod_spec(automountServiceAccountToken=True, serviceAccountName="admin"),
    "a looser security context": pod_spec(securityContext={"runAsUser": 0, "runAsNonRoot": False}),
    "containers of their own": pod_spec(
        containers=[{"name": "trainer", "securityContext": {"privileged": True}}]
    ),
    "init containers": pod_spec(initContainers=[{"name": "root", "image": "x"}]),
    "a privileged container": trainer(securityContext={"privileged": True, "capabilities": {"add": ["ALL"]}}),
    "another command": trainer(command=["sh", "-c", "id"], args=["x"], lifecycle={}),
    "finalizers and owners of pods": metadata(finalizers=["a.example/b"], ownerReferences=[{"name": "x"}]),
    "a subresource of a mount": mount("/data", mountPropagation="Bidirectional", subPathExpr="$(A)"),
    "variables from whole Secrets": trainer(envFrom=[{"secretRef": {"name": "all"}}]),
    "a status of their own": {**job(), "status": {"phase": "Complete", "attempt": {"number": 9}}},
    # odd, and fine
    "a name of 40 characters": named("a" * 40),
    "a name of one letter": named("a"),
    "text with all letters": env(name="A", value="终 😀 \u202e \x7f $(B) $$ `id` ; rm -rf /"),
    "a label's longest value": metadata(labels={"a": "x" * 63}),
    "an annotation of a network": metadata(annotations={"k8s.v1.cni.cncf.io/networks": "[{}]"}),
    "the largest numbers": job(
        spec_=spec(
            trainer={"numNodes": 10_000, "gpusPerNode": 64},
            rollout={"replicas": 4096, "minReplicas": 4096, "tensorParallel": 64},
            algorithm={"grpo": {"promptsPerStep": 65_536, "generationsPerPrompt": 1024}},
        )
    ),
    "vLLM with shell in an argument": vllm("--chat-template", "$(id); `id`"),
    "a metric of the trainer that is none": job(
        spec_=spec(checkpoint={"keepTopK": {"count": 1, "metric": "train:no/such"}})
    ),
}
