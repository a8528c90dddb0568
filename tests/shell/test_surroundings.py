"""What surrounds running pods and is deleted by somebody: it comes back, and nothing else changes, if it can be made
again as it was."""

from __future__ import annotations

from rljob_api.progress import Ending
from rljob_operator import names
from rljob_operator.cluster.resources import CHILD_KINDS

from .kubelet import Kubelet
from .places import Place, condition

PODS = ("demo-trainer-0-1", "demo-rollout-0-0", "demo-rollout-1-0")
AROUND = {"Service": "demo", "NetworkPolicy": "demo-rollout", "PodDisruptionBudget": "demo-rollout"}


def test_what_is_deleted_around_running_pods_comes_back_and_what_stands_is_left_alone(
    place: Place, kubelet: Kubelet
) -> None:
    """Without its policy a server's control routes would be open until the next pod starts."""
    with place.proxied() as proxy:
        place.operator(proxy=proxy)
        place.submit(rollout={"replicas": 2})
        place.wait_for_pods(*PODS)
        kubelet.run(*PODS)
        place.until_status(lambda status: status.get("rollout", {}).get("ready") == "2/2")
        before, made = uids(place), len(proxy.writes)
        edited = path(place, "NetworkPolicy", "demo-trainer")
        assert place.api.merge(edited, {"spec": {"ingress": []}}).code == 200
        deleted = [path(place, kind, name) for kind, name in AROUND.items()]
        for one in deleted:
            assert place.api.delete(one).code == 200
        place.until(lambda: all(place.api.get(one).code == 200 for one in deleted))
    again = [
        one.path
        for one in proxy.writes[made:]
        if one.method in ("PATCH", "POST") and "events" not in one.path
    ]
    assert sorted(again) == sorted(deleted)
    assert place.api.get(edited).body["spec"].get("ingress", []) == []
    assert uids(place) == before


def test_a_deleted_token_is_made_anew_once_no_pod_has_the_old_one(place: Place, kubelet: Kubelet) -> None:
    """The operator may not read Secrets: it cannot give the next server the token that the trainer has."""
    place.operator()
    job = place.submit()
    secret = path(place, "Secret", names.control_secret("demo", job["metadata"]["uid"]))
    place.wait_for_pods("demo-trainer-0-1", "demo-rollout-0-0")
    kubelet.run("demo-trainer-0-1", "demo-rollout-0-0")
    place.until_reason("PodsReady", "AllReady")
    assert place.api.delete(secret).code == 200
    kubelet.end("demo-rollout-0-0", Ending.FAILED, 1)
    told = place.until_reason("Progressing", "ControlSecretGone")
    assert f"{secret.rpartition('/')[2]} was deleted" in condition(told, "Progressing")["message"]
    assert place.api.get(secret).code == 404
    kubelet.reap_all("demo-trainer-0-1")
    place.wait_for_pods("demo-trainer-0-2", "demo-rollout-0-1")
    assert place.api.get(secret).code == 200


def path(place: Place, kind: str, name: str) -> str:
    return CHILD_KINDS[kind].path(place.namespace, name)


def uids(place: Place) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in place.pods().items()}
