"""A job from its creation to its end, on a real API server; the test plays scheduler and kubelet."""

from __future__ import annotations

from .kubelet import Kubelet
from .places import Place

PODS = ("demo-trainer-0-1", "demo-rollout-0-0")


def test_a_job_runs_to_its_end(place: Place, kubelet: Kubelet) -> None:
    place.operator()
    place.submit()
    place.wait_for_pods(*PODS)
    assert place.status()["attempt"]["number"] == 1
    kubelet.run(*PODS)
    place.wait_for_phase("Starting")
    kubelet.end("demo-trainer-0-1")
    place.wait_for_phase("Complete")
