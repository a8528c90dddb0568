"""What keeps pods from running, in words that say what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, a_job, a_rollout, a_status, a_trainer, seen
from rljob_operator.decide import decide
from rljob_operator.decide.hindrance import Hindrance, hindrance
from rljob_operator.observed import Observed, PodPhase, Refusal


def stuck(reason: str, message: str = "", **facts: Any) -> dict[str, Any]:
    return {
        "phase": PodPhase.PENDING,
        "ready": False,
        "started_at": None,
        "reason": reason,
        "message": message,
        **facts,
    }


def the_hindrance(observed: Observed, **spec: Any) -> Hindrance | None:
    return hindrance(a_job(**spec), observed, NOW)


def test_nothing_is_in_the_way_of_pods_that_run_or_only_start() -> None:
    assert the_hindrance(seen(a_trainer(), a_rollout(**stuck("")))) is None


def test_a_pod_that_converts_for_long_is_no_slow_start() -> None:
    pending = stuck("", created_at=NOW - 3600)
    assert the_hindrance(seen(a_trainer(**pending, node="n1", initializing="convert"))) is None
    assert the_hindrance(seen(a_trainer(**pending, node="n1"))) is not None


@pytest.mark.parametrize(
    ("reason", "message", "expected", "step"),
    [
        ("ImagePullBackOff", "", "ImagePullFailed", "imagePullSecrets"),
        ("InvalidImageName", "couldn't parse", "ImagePullFailed", "Check the image's name"),
        ("CreateContainerConfigError", "image will run as root", "ContainerCannotStart", "will run as root"),
        ("CreateContainerConfigError", 'secret "hf" not found', "SecretMissing", "Create it"),
        ("CreateContainerConfigError", "couldn't find key k in Secret ns/hf", "SecretMissing", "Create it"),
        ("CreateContainerConfigError", 'configmap "c" not found', "ConfigMapMissing", "Create it"),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "a" : secret "s" not found',
            "SecretMissing",
            '"s"',
        ),
        ("FailedMount", "references non-existent config key: k", "ConfigMapMissing", "key: k"),
        ("FailedAttachVolume", 'Multi-Attach error for volume "v"', "VolumeNotMounted", "Put right"),
        ("FailedCreatePodSandBox", "failed to setup network", "PodWaits", "network"),
        (
            "Unschedulable",
            'persistentvolumeclaim "x" not found',
            "ClaimNotReady",
            "another claim: delete job",
        ),
        ("Unschedulable", "0/3 nodes are available", "Unschedulable", "0/3 nodes"),
        ("", "port 80 is in use", "PodWaits", "port 80"),
    ],
)
def test_a_pod_that_waits(reason: str, message: str, expected: str, step: str) -> None:
    found = the_hindrance(seen(a_trainer(**stuck(reason, message))))
    assert found is not None
    assert (found.reason, step in found.message) == (expected, True)
    assert found.message.startswith("demo-trainer-0-1 waits: ")


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims"


def test_a_claim_is_given_half_a_minute_to_come() -> None:
    new, old = (
        seen(a_trainer(**stuck("Unschedulable", f"{UNBOUND}. not found", created_at=NOW - age)), a_rollout())
        for age in (20, 30)
    )
    assert the_hindrance(new) is None
    assert decide(a_job(a_status()), new, NOW).wake_at == NOW + 10
    found = the_hindrance(old)
    assert found is not None
    assert found.message.startswith(
        f"demo-trainer-0-1 waits: {UNBOUND}: claim demo-storage. Create the claim"
    )
    none = stuck("Unschedulable", 'persistentvolumeclaim "x" not found', created_at=NOW)
    assert the_hindrance(seen(a_trainer(**none))) is not None, "one that is not there will not come by itself"


def test_pods_that_wait_for_the_same_are_counted() -> None:
    pods = [a_trainer(node, **stuck("Unschedulable", "no room")) for node in range(3)]
    found = the_hindrance(seen(*pods, a_rollout(**stuck("Unschedulable", "no room"))))
    assert found is not None
    assert found.message.startswith("3 trainer pods wait: no room. It starts once there is room.")


def test_a_pod_that_is_evicted_waits_for_nothing() -> None:
    evicted = stuck("EvictionByEvictionAPI", "Eviction API: evicting")
    assert the_hindrance(seen(a_trainer(), a_rollout(**evicted))) is not None
    assert the_hindrance(seen(a_trainer(), a_rollout(**evicted, disrupted=True))) is None


def test_a_cause_that_has_a_name_goes_before_one_that_may_pass() -> None:
    sandbox = a_rollout(**stuck("FailedCreatePodSandBox", "failed to setup network"))
    secret = a_trainer(**stuck("CreateContainerConfigError", 'secret "hf" not found'))
    for pods in ((sandbox, secret), (secret, sandbox)):
        found = the_hindrance(seen(*pods))
        assert found is not None
        assert found.reason == "SecretMissing"


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected"),
    [
        (403, "Forbidden", "pods is forbidden: exceeded quota: q, requested: …", "QuotaExceeded"),
        (
            403,
            "Forbidden",
            "no PriorityClass with name research was found",
            "PriorityClassMissing",
        ),
        (403, "Forbidden", 'pod rejected: RuntimeClass "gvisor" not found', "RuntimeClassMissing"),
        (403, "Forbidden", "error looking up service account default/x", "ServiceAccountMissing"),
        (403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurity"),
        (409, "AlreadyExists", "there is a Service demo", "NameTaken"),
        (422, "Invalid", "spec.tolerations[0].operator: Invalid value", "Refused"),
    ],
)
def test_a_refusal_goes_before_what_pods_wait_for(
    code: int, reason: str, message: str, expected: str
) -> None:
    observed = replace(
        seen(a_trainer(**stuck("Unschedulable", "no room"))),
        refusal=Refusal("Pod", "demo-trainer-1-1", code, reason, message, NOW),
    )
    found = the_hindrance(observed)
    assert found is not None
    assert (found.reason, message.rstrip(".") in found.message) == (expected, True)


VOLUMES = [
    {"name": "a", "secret": {"secretName": "keys"}},
    {"name": "b", "configMap": {"name": "perhaps", "optional": True}},
]


def test_a_pod_that_has_a_node_and_does_not_run_names_what_could_be_missing() -> None:
    slow = a_trainer(**stuck("", created_at=NOW - 30), node="n1")
    spec: dict[str, Any] = {
        "trainer": {"template": {"spec": {"volumes": VOLUMES}}},
        "reward": {"python": {"module": "m", "function": "f", "configMapRef": {"name": "scorers"}}},
        "checkpoint": {"storage": {"claimName": "mine"}},
    }
    found = the_hindrance(seen(slow), **spec)
    assert found is not None
    assert found.reason == "SlowStart"
    assert "It mounts: claim mine, ConfigMap scorers, Secret keys." in found.message


def test_it_is_given_half_a_minute_and_looked_at_then() -> None:
    observed = seen(a_trainer(**stuck("", created_at=NOW - 20), node="n1"), a_rollout())
    assert the_hindrance(observed) is None
    assert decide(a_job(a_status()), observed, NOW).wake_at == NOW + 10
