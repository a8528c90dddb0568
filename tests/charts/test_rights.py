"""The roles give the operator what it uses (`rights.py`) and nothing more, in the namespaces where it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube.api import Manifest
from rljob_operator.cluster.rights import JOB_RIGHTS, LEASE_RIGHTS, Right

from .chart import CHART, NAMESPACE, VARIANTS, of_kind, rendered

NAMESPACED = CHART / "ci" / "namespaced-values.yaml"
BARE = CHART / "ci" / "bare-values.yaml"
AGGREGATED = "rbac.authorization.k8s.io/aggregate-to-edit"


def granted(objects: list[Manifest], subject: str) -> dict[str | None, set[Right]]:
    """What bindings give a service account, by namespace; None is everywhere."""
    roles = {key(each): each for kind in ("Role", "ClusterRole") for each in of_kind(kind, objects)}
    found: dict[str | None, set[Right]] = {}
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of_kind(kind, objects):
            assert [each["name"] for each in binding["subjects"]] == [subject]
            namespace = binding["metadata"].get("namespace")
            role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"], namespace]
            found.setdefault(namespace, set()).update(*map(rights, role["rules"]))
    return found


def key(role: Manifest) -> tuple[str, str, str | None]:
    return role["kind"], role["metadata"]["name"], role["metadata"].get("namespace")


def rights(rule: Manifest) -> list[Right]:
    return [
        Right(group, resource, tuple(rule["verbs"]))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


def test_the_operator_gets_what_it_uses_everywhere_and_leases_at_home() -> None:
    assert granted(rendered(), "rl-rljob-operator") == {None: set(JOB_RIGHTS), NAMESPACE: set(LEASE_RIGHTS)}


def test_an_operator_of_two_namespaces_has_no_rights_elsewhere() -> None:
    objects = rendered(NAMESPACED)
    assert of_kind("ClusterRole", objects) == of_kind("ClusterRoleBinding", objects) == []
    at_work, at_home = set(JOB_RIGHTS), set(LEASE_RIGHTS)
    assert granted(objects, "rl-rljob-operator") == {"team-a": at_work, "team-b": at_work, NAMESPACE: at_home}


def test_rights_can_be_left_to_somebody_else() -> None:
    assert granted(rendered(BARE), "theirs") == {}


@pytest.mark.parametrize("values", VARIANTS, ids=lambda path: path.stem)
def test_nobody_gets_a_wildcard(values: Path) -> None:
    roles = [*of_kind("Role", rendered(values)), *of_kind("ClusterRole", rendered(values))]
    words = [word for role in roles for rule in role["rules"] for each in rule.values() for word in each]
    assert "*" not in words


def test_people_who_may_edit_may_edit_jobs_and_nobody_writes_a_status() -> None:
    people = [role for role in of_kind("ClusterRole", rendered()) if AGGREGATED in role["metadata"]["labels"]]
    verbs = {
        (role["metadata"]["name"].rsplit("-", 1)[1], right.resource): right.verbs
        for role in people
        for rule in role["rules"]
        for right in rights(rule)
    }
    seen = ("get", "list", "watch")
    assert verbs == {
        ("view", "rljobs"): seen,
        ("view", "rljobs/status"): seen,
        ("view", "rljobs/scale"): seen,
        ("edit", "rljobs"): ("create", "update", "patch", "delete", "deletecollection"),
        ("edit", "rljobs/scale"): ("update", "patch"),
    }
