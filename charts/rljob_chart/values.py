"""The chart's values, each with its default and what it changes. The operator's settings are values too, so that the
two cannot drift: what `Settings` declares, an administrator finds in `values.yaml`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rljob_api.base import Manifest, Spec
from rljob_operator.settings import JobDefaults, Settings


class Image(Spec):
    """Image of the operator."""

    repository: str = Field("rljob-operator", min_length=1)
    """Its name, without the registry."""
    tag: str = ""
    """Empty: the chart's appVersion."""
    digest: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """Wins over the tag, for example `sha256:…`."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """As in core/v1."""


class Crds(Spec):
    """The CustomResourceDefinition of RLJob."""

    install: bool = True
    """Install and upgrade it with the chart. Off: somebody else does, with `crds/rljobs.yaml`."""
    keep: bool = True
    """Keep it, and with it every RLJob, when the chart is uninstalled."""


class Rbac(Spec):
    """Rights."""

    create: bool = True
    """Make the operator's roles and their bindings: cluster-wide, or one per namespace in `namespaces`."""
    aggregate: bool = True
    """Add RLJobs to the cluster's roles `view`, `edit` and `admin`."""


class ServiceAccount(Spec):
    """Whom the operator is to the API server."""

    create: bool = True
    """Make it."""
    name: str = ""
    """Empty: the release's full name, or `default` where `create` is off."""
    annotations: dict[str, str] = Field({})
    """For example a cloud identity."""


class PodDisruptionBudget(Spec):
    """For drains of nodes."""

    enabled: bool = True
    """Let a drain take one replica at a time; without effect below two replicas."""


class ServiceMonitor(Spec):
    """A ServiceMonitor for the operator and a PodMonitor for jobs; needs the Prometheus Operator's CRDs."""

    enabled: bool = False
    """Make them."""
    interval: str = Field("30s", pattern=r"^[0-9]+(ms|s|m|h)$")
    """Between two scrapes."""
    labels: dict[str, str] = Field({})
    """What your Prometheus selects monitors by, for example `{release: kube-prometheus-stack}`."""


class Rules(Spec):
    """A PrometheusRule with the alerts of `files/alerts.yaml`; needs the Prometheus Operator's CRDs."""

    enabled: bool = False
    """Make it."""
    labels: dict[str, str] = Field({})
    """What your Prometheus selects rules by."""


class Dashboards(Spec):
    """Grafana dashboards as ConfigMaps, for Grafana's sidecar."""

    enabled: bool = False
    """Make them."""
    labels: dict[str, str] = Field({"grafana_dashboard": "1"})
    """What the sidecar selects ConfigMaps by."""
    annotations: dict[str, str] = Field({})
    """For example the folder: `{grafana_folder: RLJob}`."""


class Metrics(Spec):
    """Who looks at the operator and at jobs."""

    monitor: ServiceMonitor = ServiceMonitor()
    rules: Rules = Rules()
    dashboards: Dashboards = Dashboards()


class NetworkPolicy(Spec):
    """A NetworkPolicy for the operator's pods."""

    enabled: bool = True
    """Make it."""
    metrics_from: list[Manifest] = Field([])
    """Who may read the metrics: peers as in networking/v1. Empty: everyone in the cluster."""
    api_server_ports: list[int] = Field([443, 6443, 8443, 16443], min_length=1)
    """Ports at which API servers listen: a policy sees the API server's own port, not that of the service before it."""
    dns_ports: list[int] = Field([53, 5353], min_length=1)
    """Ports at which DNS servers listen; OpenShift's is 5353."""
    extra_egress: list[Manifest] = Field([])
    """More rules, as in networking/v1."""


class ChartJobDefaults(JobDefaults):
    """What pods of a job get where the job itself says nothing. Taken up by pods that start later; images, by the next
    attempt."""

    image: str = Field("", max_length=512)
    """Image of trainers and rollouts. Empty: `<registry>/rljob-trainer:<appVersion>`."""


class Values(Settings):
    """All values of the chart."""

    registry: str = Field("", pattern=r"^([^/].*[^/])?$")
    """Put before the images of operator and jobs, for example `registry.example/team`."""
    image: Image = Image()
    image_pull_secrets: list[str] = Field([])
    """Names of Secrets for the operator's own image; those of jobs are in `jobDefaults`."""
    job_defaults: ChartJobDefaults = ChartJobDefaults()

    replicas: int = Field(2, ge=1, le=5)
    """Of the operator. One works, the others stand by; jobs go on training without any."""
    crds: Crds = Crds()
    rbac: Rbac = Rbac()
    service_account: ServiceAccount = ServiceAccount()
    network_policy: NetworkPolicy = NetworkPolicy()
    metrics: Metrics = Metrics()
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()

    resources: Manifest = Field({"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}})
    """Of the operator's container. It holds some 75 MB, and 4 KB a pod and 12 KB a job; for a moment after a start,
    while it lists them all, half as much again. Beyond 50,000 pods raise the limit."""
    node_selector: dict[str, str] = Field({})
    """Labels that the operator's nodes must have."""
    tolerations: list[Manifest] = Field([])
    """As in core/v1."""
    affinity: Manifest = Field({})
    """As in core/v1. Empty: replicas prefer different nodes."""
    topology_spread_constraints: list[Manifest] = Field([])
    """As in core/v1."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the operator tells; a line is a JSON object."""
    priority_class_name: str = ""
    """For example `system-cluster-critical`."""
    pod_security_context: Manifest = Field(
        {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    )
    """As in core/v1. On OpenShift: `{runAsUser: null, runAsGroup: null}`."""
    pod_labels: dict[str, str] = Field({})
    """More labels of the operator's pods."""
    pod_annotations: dict[str, str] = Field({})
    """Annotations of the operator's pods."""
    extra_env: list[Manifest] = Field([])
    """More environment of the operator, as in core/v1."""
    extra_volumes: list[Manifest] = Field([])
    """More volumes of the operator's pods, as in core/v1."""
    extra_volume_mounts: list[Manifest] = Field([])
    """Where they are mounted, as in core/v1."""
    common_labels: dict[str, str] = Field({})
    """More labels of everything that the chart makes."""

    name_override: str = Field("", max_length=40)
    """Instead of the chart's name in names of objects."""
    fullname_override: str = Field("", max_length=40)
    """Instead of release and chart name in names of objects."""
    enabled: bool = True
    """Of no effect here: what a parent chart's `condition` reads."""
    global_: Manifest = Field({}, alias="global")
    """Of no effect here: what Helm hands down from a parent chart."""
