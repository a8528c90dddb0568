"""Where pods may run: tolerations, affinity and spread constraints, with the names and meanings of core/v1."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from .base import LabelKey, LabelValue, Spec


class Toleration(Spec):
    """A taint that is no obstacle."""

    key: LabelKey | None = None
    """Key of the taint; absent, with `operator: Exists`, means any."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether the value matters."""
    value: LabelValue = ""
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; absent means any."""
    toleration_seconds: int | None = Field(None, ge=0, le=31_536_000)
    """How long a `NoExecute` taint is borne; absent means for ever."""


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeOperator(StrEnum):
    """How a node's label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelRequirement(Spec):
    """One demand on a pod's labels."""

    key: LabelKey
    """Label."""
    operator: SelectorOperator
    """How it is compared."""
    values: list[LabelValue] = Field([], max_length=32)
    """Values for `In` and `NotIn`."""


class NodeRequirement(Spec):
    """One demand on a node's labels."""

    key: LabelKey
    """Label."""
    operator: NodeOperator
    """How it is compared."""
    values: list[LabelValue] = Field([], max_length=32)
    """Values to compare with; one number for `Gt` and `Lt`."""


class LabelSelector(Spec):
    """Which pods are meant; all demands must hold."""

    match_labels: dict[str, LabelValue] = Field({}, max_length=16)
    """Labels with these values."""
    match_expressions: list[LabelRequirement] = Field([], max_length=16)
    """Further demands."""


class NodeTerm(Spec):
    """Which nodes are meant; all demands must hold."""

    match_expressions: list[NodeRequirement] = Field(min_length=1, max_length=16)
    """Demands on a node's labels."""


class RequiredNodes(Spec):
    """Nodes that fit one of the terms."""

    node_selector_terms: list[NodeTerm] = Field(min_length=1, max_length=16)
    """Terms, one of which must hold."""


class PreferredNodes(Spec):
    """Nodes that are liked better."""

    weight: int = Field(ge=1, le=100)
    """How much better."""
    preference: NodeTerm
    """Which nodes."""


class NodeAffinity(Spec):
    """Nodes that pods want."""

    required_during_scheduling_ignored_during_execution: RequiredNodes | None = None
    """Without such a node a pod waits."""
    preferred_during_scheduling_ignored_during_execution: list[PreferredNodes] = Field([], max_length=16)
    """Such nodes are tried first."""


class PodTerm(Spec):
    """Pods of the job's namespace, and what counts as near."""

    label_selector: LabelSelector
    """Which pods."""
    topology_key: LabelKey
    """Label of nodes; those with the same value are one place."""


class WeightedPodTerm(Spec):
    """Neighbours that are liked, or disliked, more than others."""

    weight: int = Field(ge=1, le=100)
    """How much more."""
    pod_affinity_term: PodTerm
    """Which neighbours."""


class PodAffinity(Spec):
    """Pods that must, or should, be near; for anti-affinity: far."""

    required_during_scheduling_ignored_during_execution: list[PodTerm] = Field([], max_length=16)
    """Without such a place a pod waits."""
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodTerm] = Field([], max_length=16)
    """Such places are tried first."""


class Affinity(Spec):
    """Nodes and neighbours that pods want or avoid."""

    node_affinity: NodeAffinity | None = None
    """Nodes that pods want."""
    pod_affinity: PodAffinity | None = None
    """Pods to be near to."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods to be far from."""


class TopologySpreadConstraint(Spec):
    """How evenly pods spread over places."""

    max_skew: int = Field(ge=1, le=10_000)
    """Most by which two places may differ in pods."""
    topology_key: LabelKey
    """Label of nodes; those with the same value are one place."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """Whether a pod waits, or goes where it is least uneven."""
    label_selector: LabelSelector | None = None
    """Pods that are counted; absent means this role's pods of this job."""
