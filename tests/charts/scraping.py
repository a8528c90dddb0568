"""What the Prometheus Operator makes of the chart's monitors: a configuration by which Prometheus finds pods.

Debian's Prometheus is built without discovery in Kubernetes, so pods are listed here as that would list them; what is
selected and how it is labelled is Prometheus' own work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kube.api import Manifest

META = "__meta_kubernetes"
SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def scrape_configs(monitors: list[Manifest], pods: list[Manifest], namespace: str) -> list[Manifest]:
    """One per endpoint of each monitor. The monitors lie in `namespace`."""
    targets = [target for pod in pods for target in _targets(pod)]
    return [
        _scrape_config(monitor, endpoint, namespace, targets)
        for monitor in monitors
        for endpoint in monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    ]


def _targets(pod: Manifest) -> Iterator[Manifest]:
    """One per port of a container, with what is known of it."""
    labels = pod["metadata"]["labels"]
    known = {
        f"{META}_namespace": pod["metadata"]["namespace"],
        f"{META}_pod_name": pod["metadata"]["name"],
        **{f"{META}_pod_label_{_escaped(key)}": value for key, value in labels.items()},
        **{f"{META}_pod_labelpresent_{_escaped(key)}": "true" for key in labels},
    }
    for port in pod["spec"]["containers"][0].get("ports", []):
        address = f"{pod['status']['podIP']}:{port['containerPort']}"
        yield {"targets": [address], "labels": {**known, f"{META}_pod_container_port_name": port["name"]}}


def _scrape_config(
    monitor: Manifest, endpoint: Manifest, namespace: str, targets: list[Manifest]
) -> Manifest:
    everywhere = monitor["spec"].get("namespaceSelector", {}).get("any", False)
    return {
        "job_name": f"{monitor['kind']}/{endpoint['port']}",
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint["path"],
        "static_configs": targets,
        "relabel_configs": [
            *([] if everywhere else [_kept("namespace", namespace)]),
            *_selected(monitor["spec"]["selector"]),
            _kept("pod_container_port_name", endpoint["port"]),
            {"source_labels": [f"{META}_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{META}_pod_name"], "target_label": "pod"},
            *map(_snake_case, endpoint.get("relabelings", [])),
        ],
    }


def _selected(selector: Manifest) -> list[Manifest]:
    """Our Service has the labels of the pods behind it, so that a pod can be asked for those of the Service."""
    exact = [
        _kept(f"pod_label_{_escaped(key)}", value) for key, value in selector.get("matchLabels", {}).items()
    ]
    present = [
        _kept(f"pod_labelpresent_{_escaped(each['key'])}", "true")
        for each in selector.get("matchExpressions", [])
    ]
    return exact + present


def _kept(label: str, value: str) -> Manifest:
    return {"source_labels": [f"{META}_{label}"], "regex": value, "action": "keep"}


def _escaped(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _snake_case(relabeling: Manifest) -> Manifest:
    return {SNAKE.sub("_", key).lower(): value for key, value in relabeling.items()}
