"""Whole manifests against goldens. After a wanted change: `RLJOB_WRITE_GOLDENS=1 pytest tests/render`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from builders import a_job, a_status, an_attempt
from rljob_api.base import EnvVar, Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.placement import Toleration
from rljob_api.pod_rules import OWN_VOLUMES, free_path
from rljob_api.roles import Role
from rljob_api.run import RUN_FILE, Run
from rljob_api.status import AttemptStatus, Status
from rljob_api.template import PodTemplate, TemplateMetadata
from rljob_operator import names
from rljob_operator.decide import Decision, Goal, PodStart
from rljob_operator.pin import pinned
from rljob_operator.render import render
from rljob_operator.render.template import REQUIRED, merged_labels
from rljob_operator.settings import CaConfigMap, JobDefaults, Settings

GOLDENS = Path(__file__).with_name("goldens")
STARTS = (
    PodStart(RoleName.TRAINER, 0, "demo-trainer-0-1"),
    PodStart(RoleName.TRAINER, 1, "demo-trainer-1-1"),
    PodStart(RoleName.ROLLOUT, 0, "demo-rollout-0-0"),
)
ON_CPU: dict[str, Any] = {"trainer": {"numNodes": 2}}
ON_GPU: dict[str, Any] = {
    "trainer": {
        "numNodes": 2,
        "gpusPerNode": 8,
        "image": "example/trainer:1",
        "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
        "resources": {"requests": {"memory": "64Gi"}, "limits": {"memory": "64Gi"}},
    },
    "rollout": {"tensorParallel": 4},
    "accelerator": {"resourceName": "example.com/gpu"},
    "checkpoint": {
        "storage": {"size": "500Gi", "storageClassName": "nfs"},
        "onPreemption": {"gracePeriodSeconds": 120},
    },
}

EVERYTHING: dict[str, Any] = {
    "initialCheckpoint": {"rljobName": "warm", "step": 4},
    "model": {"source": "Qwen/Qwen3-8B", "tokenSecretRef": {"name": "hf", "key": "token"}},
    "trainer": {
        "numNodes": 2,
        "gpusPerNode": 1,
        "env": [{"name": "HF_HOME", "value": "/data/hf"}],
        "resources": {"requests": {"rdma/hca": "1"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "gsm8k", "readOnly": True}],
        "template": {
            "metadata": {
                "labels": {"team": "red"},
                "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
            },
            "spec": {
                "serviceAccountName": "trainer",
                "nodeSelector": {"pool": "h200"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["a"]}]}
                            ]
                        }
                    }
                },
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                    }
                ],
                "priorityClassName": "research",
                "schedulerName": "kai-scheduler",
                "runtimeClassName": "nvidia",
                "imagePullSecrets": [{"name": "mine"}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "datasets"}},
                    {"name": "settings", "configMap": {"name": "settings"}},
                    {"name": "keys", "secret": {"secretName": "keys"}},
                    {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}},
                ],
            },
        },
    },
    "rollout": {"replicas": 4, "minReplicas": 2},
    "reward": {"python": {"module": "mine", "function": "score", "configMapRef": {"name": "scorers"}}},
    "logging": {"wandb": {"project": "math", "secretRef": {"name": "wandb", "key": "api-key"}}},
    "checkpoint": {"storage": {"retentionPolicy": {"whenDeleted": "Delete"}}},
}
PLAIN = JobDefaults(image="rljob-trainer:test")
DEFAULTS = JobDefaults(
    image="registry.example/rljob-trainer:test",
    image_pull_policy="Always",
    image_pull_secrets=["registry", "mine"],
    storage_class_name="nfs",
    node_selector={"pool": "any", "zone": "z"},
    tolerations=[Toleration(key="spot", operator="Exists")],
    env=[EnvVar(name="HTTPS_PROXY", value="http://proxy.example:3128"), EnvVar(name="HF_HOME", value="/x")],
    ca_config_map=CaConfigMap(name="trusted", key="bundle.pem"),
    progress_namespaces=["rljob-system", "monitoring"],
    vllm_metrics_namespaces=["monitoring"],
)


def rendered(defaults: JobDefaults = PLAIN, **spec: Any) -> list[Manifest]:
    """What an attempt's start makes."""
    job, settings = a_job(**spec), Settings(job_defaults=defaults)
    attempt = pinned(job, Decision(Goal.RUN, "FirstAttempt", begin=an_attempt()), defaults).begin
    begun = job.model_copy(update={"status": Status(attempt=attempt)})
    return render(begun, Decision(Goal.RUN, "FirstAttempt", start=STARTS), "control-token", settings)


@pytest.mark.parametrize(
    ("name", "spec", "defaults"),
    [
        ("cpu", ON_CPU, PLAIN),
        ("gpu", ON_GPU, PLAIN),
        ("megatron", ON_GPU | {"backend": "megatron"}, PLAIN),
        ("everything", EVERYTHING, DEFAULTS),
    ],
)
def test_manifests_equal_their_goldens(name: str, spec: dict[str, Any], defaults: JobDefaults) -> None:
    golden = GOLDENS / f"{name}.yaml"
    manifests = [without_run(manifest) for manifest in rendered(defaults, **spec)]
    if os.environ.get("RLJOB_WRITE_GOLDENS"):
        GOLDENS.mkdir(exist_ok=True)
        yaml = YAML()
        yaml.representer.ignore_aliases = lambda _: True
        yaml.dump_all(manifests, golden)
    assert list(YAML(typ="safe").load_all(golden)) == manifests


def without_run(manifest: Manifest) -> Manifest:
    """The Run is compared by itself below: it changes with every new field of the API."""
    return manifest | {"data": {RUN_FILE: "…"}} if manifest["kind"] == "ConfigMap" else manifest


def test_the_config_map_carries_the_whole_run() -> None:
    (config_map,) = [one for one in rendered(DEFAULTS, **ON_GPU) if one["kind"] == "ConfigMap"]
    run = Run.model_validate_json(config_map["data"][RUN_FILE])
    assert run.spec == a_job(**ON_GPU).spec
    assert (run.attempt, run.token) == (1, "1-token")
    assert run.default_env == DEFAULTS.env
    assert run.master_addr == "demo-trainer-0.demo"
    assert run.rollout_hosts == ["demo-rollout-0.demo"]
    assert run.rollout_host.format(index=0) == "demo-rollout-0.demo"


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Init containers and containers of the first trainer, by name."""
    pod = next(one for one in manifests if one["kind"] == "Pod")["spec"]
    return {one["name"]: one for one in (*pod.get("initContainers", ()), *pod["containers"])}


def test_a_megatron_trainer_has_its_model_converted_first_without_gpus_and_secrets() -> None:
    wandb = {"wandb": {"project": "p", "secretRef": {"name": "wandb", "key": "key"}}}
    made = containers(rendered(**ON_GPU, backend="megatron", logging=wandb))
    assert list(made) == ["convert", "trainer"]
    convert, train = made["convert"], made["trainer"]
    assert (convert["command"][-1], train["command"][-1]) == ("convert", "train")
    assert convert["resources"]["limits"] == {"memory": "64Gi"}
    assert "WANDB_API_KEY" not in {one["name"] for one in convert["env"]}
    conversions = {"name": "NRL_MEGATRON_CHECKPOINT_DIR", "value": "/var/lib/rljob/cache/megatron"}
    assert conversions in convert["env"]
    assert conversions in train["env"]
    for same in ("image", "securityContext", "volumeMounts"):
        assert convert[same] == train[same]


def test_other_trainers_and_servers_convert_nothing() -> None:
    assert list(containers(rendered(**ON_GPU))) == ["trainer"]
    servers = [one for one in rendered(backend="megatron") if "rollout" in one["metadata"]["name"]]
    assert all("initContainers" not in one["spec"] for one in servers)


def test_the_control_token_is_in_the_secret_alone() -> None:
    kinds = [one["kind"] for one in rendered(**ON_GPU) if "control-token" in str(one)]
    assert kinds == ["Secret"]


def test_nothing_is_rendered_when_nothing_starts() -> None:
    assert render(a_job(a_status()), Decision(Goal.RUN, ""), "t", Settings()) == []


def test_an_existing_claim_is_mounted_and_not_made() -> None:
    manifests = rendered(checkpoint={"storage": {"claimName": "shared"}})
    assert "PersistentVolumeClaim" not in [one["kind"] for one in manifests]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for one in manifests
        if one["kind"] == "Pod"
        for volume in one["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"shared"}


def test_the_users_environment_wins() -> None:
    env = [{"name": "OMP_NUM_THREADS", "value": "2"}]
    pod = next(one for one in rendered(trainer={"env": env}) if one["kind"] == "Pod")
    values = [one for one in pod["spec"]["containers"][0]["env"] if one["name"] == "OMP_NUM_THREADS"]
    assert [one["value"] for one in values] == ["2"]


def test_pods_stay_together_if_their_claim_is_for_one_node() -> None:
    near = {"labelSelector": {"matchLabels": {"app": "cache"}}, "topologyKey": "rack"}
    template = {"spec": {"affinity": {"podAffinity": {REQUIRED: [near]}}}}
    storage = {"accessModes": ["ReadWriteOnce"]}
    manifests = rendered(trainer={"template": template}, checkpoint={"storage": storage})
    trainer, *_, server = [one["spec"]["affinity"] for one in manifests if one["kind"] == "Pod"]
    job = {
        "labelSelector": {"matchLabels": {"rljob.io/name": "demo"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    wanted = trainer["podAffinity"][REQUIRED]
    assert (wanted[0]["topologyKey"], wanted[1]) == ("rack", job)
    assert server == {"podAffinity": {REQUIRED: [job]}}


def edited(attempt: AttemptStatus, **spec: Any) -> RLJob:
    """A job whose spec changed since its status was written."""
    job = a_job(Status(attempt=attempt, observed_generation=1), **spec)
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"generation": 2})})


def test_after_an_edit_the_surroundings_follow_and_no_pod_does() -> None:
    job = edited(an_attempt(), rollout={"replicas": 3, "minReplicas": 2})
    manifests = render(job, Decision(Goal.RUN, ""), "t", Settings())
    kinds = ["PersistentVolumeClaim", "Service", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"]
    assert [one["kind"] for one in manifests] == kinds


@pytest.mark.parametrize(
    ("replicas", "least", "kept"), [(1, 1, None), (2, 1, 1), (2, 2, 1), (8, 4, 4), (8, 8, 7)]
)
def test_a_drain_can_always_evict_one_server(replicas: int, least: int, kept: int | None) -> None:
    rollout = {"replicas": replicas, "minReplicas": least}
    budgets = [one for one in rendered(rollout=rollout) if one["kind"] == "PodDisruptionBudget"]
    assert [one["spec"]["minAvailable"] for one in budgets] == ([] if kept is None else [kept])


def test_only_trainers_reach_a_server_and_the_operators_namespace_none_of_them() -> None:
    """What reads progress reads nothing of vLLM; who measures vLLM is named apart."""

    def let_in(role: str, defaults: JobDefaults) -> list[tuple[Any, Any]]:
        (policy,) = [one for one in rendered(defaults) if one["metadata"]["name"] == f"demo-{role}"]
        rules = policy["spec"]["ingress"]
        return [(one["from"], one.get("ports")) for one in rules if "namespaceSelector" in one["from"][0]]

    readers = JobDefaults(progress_namespaces=["rljob-system"])
    assert let_in("rollout", readers) == []
    assert [ports for _, ports in let_in("trainer", readers)] == [[{"protocol": "TCP", "port": 29401}]]
    measured = JobDefaults(vllm_metrics_namespaces=["monitoring"])
    assert let_in("trainer", measured) == []
    assert [ports for _, ports in let_in("rollout", measured)] == [[{"protocol": "TCP", "port": 29402}]]


@pytest.mark.parametrize("role", ["trainer", "rollout"])
def test_servers_reach_only_ports_that_collectives_choose(role: str) -> None:
    """Not where ranks meet, nor progress, nor each other's vLLM."""
    (policy,) = [one for one in rendered() if one["metadata"]["name"] == f"demo-{role}"]
    trainers, servers = policy["spec"]["ingress"]
    assert "ports" not in trainers
    (labels,) = [one["podSelector"]["matchLabels"] for one in servers["from"]]
    assert labels == {"rljob.io/name": "demo", "rljob.io/role": "rollout"}
    (port,) = servers["ports"]
    assert max(names.MASTER_PORT, names.PROGRESS_PORT, names.ROLLOUT_PORT) < port["port"] < port["endPort"]


def test_every_container_trusts_the_administrators_authorities_and_its_pod_mounts_them() -> None:
    """The conversion too: it fetches the model. An administrator's or a user's own variable wins."""
    file = "/etc/rljob-ca/ca.crt"
    defaults = JobDefaults(
        ca_config_map=CaConfigMap(name="trusted"), env=[EnvVar(name="SSL_CERT_FILE", value="/x")]
    )
    pods = [one["spec"] for one in rendered(defaults, **ON_GPU, backend="megatron") if one["kind"] == "Pod"]
    assert {len(pod.get("initContainers", [])) for pod in pods} == {0, 1}
    for pod in pods:
        (volume,) = [one for one in pod["volumes"] if one["name"] == "rljob-ca"]
        assert volume["configMap"] == {"name": "trusted", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            env = {one["name"]: one.get("value") for one in container["env"]}
            assert (env["REQUESTS_CA_BUNDLE"], env["SSL_CERT_FILE"]) == (file, "/x")
            assert "/etc/rljob-ca" in [one["mountPath"] for one in container["volumeMounts"]]


@pytest.mark.parametrize("spec", [ON_CPU, ON_GPU | {"backend": "megatron"}, EVERYTHING])
def test_no_user_can_take_the_name_or_the_path_of_a_volume_of_the_operator(spec: dict[str, Any]) -> None:
    users = {one["name"] for one in spec["trainer"].get("template", {}).get("spec", {}).get("volumes", ())}
    pods = [one["spec"] for one in rendered(DEFAULTS, **spec) if one["kind"] == "Pod"]
    volumes = {volume["name"] for pod in pods for volume in pod["volumes"]} - users
    containers = [each for pod in pods for each in (*pod.get("initContainers", []), *pod["containers"])]
    mounts = [mount for each in containers for mount in each["volumeMounts"] if mount["name"] not in users]
    assert volumes <= set(OWN_VOLUMES)
    assert not [mount["mountPath"] for mount in mounts if free_path(mount["mountPath"])]


def test_policies_can_be_left_to_the_administrator() -> None:
    assert "NetworkPolicy" not in [one["kind"] for one in rendered(JobDefaults(network_policies=False))]


def test_an_attempt_keeps_the_image_and_the_claim_its_class_when_the_defaults_change() -> None:
    before = an_attempt(trainer_image="old:1", rollout_image="old:2", storage_class_name="first")
    defaults = JobDefaults(image="new:1", storage_class_name="second")
    job = a_job(Status(attempt=before))
    manifests = render(job, Decision(Goal.RUN, "", start=STARTS), "t", Settings(job_defaults=defaults))
    images = {one["spec"]["containers"][0]["image"] for one in manifests if one["kind"] == "Pod"}
    (claim,) = [one for one in manifests if one["kind"] == "PersistentVolumeClaim"]
    assert (images, claim["spec"]["storageClassName"]) == ({"old:1", "old:2"}, "first")
    after = pinned(job, Decision(Goal.RUN, "", begin=an_attempt(2)), defaults).begin
    assert after is not None
    assert (after.trainer_image, after.storage_class_name) == ("new:1", "first")


def test_the_operators_labels_win_even_where_no_rule_was_asked() -> None:
    metadata = TemplateMetadata(labels={"rljob.io/name": "other", "team": "red"})
    role = Role(template=PodTemplate(metadata=metadata))
    assert merged_labels(role, {"rljob.io/name": "mine"}) == {"rljob.io/name": "mine", "team": "red"}
