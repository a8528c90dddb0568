"""What is read of a pod, in the shapes that kubelets and schedulers leave it in."""

from __future__ import annotations

from typing import Any

import pytest

from builders import last_words
from kube.api import Manifest
from rljob_api.failure import RoleName
from rljob_api.progress import Ending
from rljob_operator import names, times
from rljob_operator.cluster.pods import observed_pod
from rljob_operator.observed import PodPhase

ENDED = "2026-01-01T00:01:00Z"


def a_pod(*states: Manifest, conditions: list[Manifest] | None = None, **status: Any) -> Manifest:
    labels = names.pod_labels("demo", RoleName.TRAINER, 1, 3)
    metadata = {"name": "p", "uid": "u", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    containers = [{"name": f"c{number}", "state": state} for number, state in enumerate(states)]
    facts: Manifest = {"containerStatuses": containers, "conditions": conditions or [], **status}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 9},
        "status": facts,
    }


def terminated(code: int, message: str = "", reason: str = "Error") -> Manifest:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason, "finishedAt": ENDED}}


def waiting(reason: str, message: str = "") -> Manifest:
    return {"waiting": {"reason": reason, "message": message}}


def test_a_pod_is_what_its_labels_say() -> None:
    pod = observed_pod(a_pod(phase="Pending"))
    assert (pod.role, pod.index, pod.attempt, pod.node) == (RoleName.TRAINER, 1, 3, "n1")
    assert pod.grace_seconds == 9


def test_a_pod_of_somebody_else_is_refused() -> None:
    manifest = a_pod(phase="Pending")
    del manifest["metadata"]["labels"][names.LABEL_ROLE]
    with pytest.raises(KeyError):
        observed_pod(manifest)


def test_last_words_are_read_and_other_text_is_shown() -> None:
    words = last_words(Ending.PREEMPTED, exit_code=143)
    said = observed_pod(a_pod(terminated(143, words.model_dump_json(by_alias=True)), phase="Failed"))
    assert (said.last_words, said.message, said.exit_code) == (words, "", 143)
    text = observed_pod(a_pod(terminated(1, "Traceback: no memory\n"), phase="Failed"))
    assert (text.last_words, text.message) == (None, "Traceback: no memory")
    killed = observed_pod(a_pod(terminated(137, "the end of its log"), phase="Failed"))
    assert (killed.reason, killed.message) == ("Error", "")


def test_a_pod_that_a_kubelet_refused_ended_when_that_was_said() -> None:
    """Or the pause after it would begin anew with each look."""
    said = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"}
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "startTime": ENDED}
    pod = observed_pod(a_pod(conditions=[said], **refused))
    assert (pod.ended, pod.finished_at) == (True, times.to_seconds(ENDED))
    assert observed_pod(a_pod(phase="Running", startTime=ENDED)).finished_at is None


def test_of_several_containers_the_one_that_failed_explains_the_end() -> None:
    pod = observed_pod(
        a_pod(terminated(0, reason="Completed"), terminated(137, reason="OOMKilled"), phase="Failed")
    )
    assert (pod.exit_code, pod.reason) == (137, "OOMKilled")


def before(state: Manifest) -> list[Manifest]:
    return [{"name": "convert", "state": state}]


def test_a_pod_whose_init_container_runs_says_so_and_waits_for_nothing_else() -> None:
    running = {"running": {"startedAt": ENDED}}
    pod = observed_pod(
        a_pod(waiting("PodInitializing"), phase="Pending", initContainerStatuses=before(running))
    )
    assert (pod.initializing, pod.ended_in, pod.reason, pod.phase) == ("convert", "", "", PodPhase.PENDING)


def test_an_init_container_that_ended_well_ended_nothing() -> None:
    running = {"running": {"startedAt": ENDED}}
    done = before(terminated(0, reason="Completed"))
    pod = observed_pod(a_pod(running, phase="Running", initContainerStatuses=done))
    assert (pod.initializing, pod.ended_in, pod.exit_code, pod.finished_at) == ("", "", None, None)


def test_an_init_container_that_failed_ended_the_pod_and_is_named() -> None:
    words = last_words(Ending.MISTAKE, exit_code=2, message="no such model")
    failed = before(terminated(2, words.model_dump_json(by_alias=True)))
    pod = observed_pod(a_pod(waiting("PodInitializing"), phase="Failed", initContainerStatuses=failed))
    assert (pod.ended_in, pod.exit_code, pod.last_words) == ("convert", 2, words)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_what_keeps_a_container_from_starting_is_told(reason: str) -> None:
    pod = observed_pod(a_pod(waiting(reason, "because"), phase="Pending"))
    assert (pod.reason, pod.message) == (reason, "because")


def test_an_ordinary_start_is_not_told() -> None:
    assert observed_pod(a_pod(waiting("ContainerCreating"), phase="Pending")).reason == ""


def test_a_pod_without_room_says_what_the_scheduler_says() -> None:
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pod = observed_pod(a_pod(phase="Pending", conditions=[unplaced]))
    assert (pod.reason, pod.message) == ("Unschedulable", "0/3 nodes")


def test_who_ended_a_pod_comes_before_how_its_container_ended() -> None:
    drained = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "drain",
    }
    pod = observed_pod(a_pod(terminated(143), phase="Failed", conditions=[drained]))
    assert (pod.disrupted, pod.reason, pod.message) == (True, "EvictionByEvictionAPI", "drain")
    evicted = observed_pod(a_pod(terminated(137), phase="Failed", reason="Evicted", message="low on memory"))
    assert (evicted.reason, evicted.message) == ("Evicted", "low on memory")


def test_a_pod_of_a_silent_node_counts_as_running() -> None:
    assert observed_pod(a_pod(phase="Unknown")).phase is PodPhase.RUNNING
