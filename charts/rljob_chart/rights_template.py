"""The rules of the operator's roles, made from what it does: `rljob_operator.cluster.rights`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rljob_operator.cluster.rights import JOB_RIGHTS, LEASE_RIGHTS, Right

HEADER = "{{/* Made from rljob_operator/cluster/rights.py by `make crds`. Change that. */}}\n"


def rights_template() -> str:
    return HEADER + _defined("jobRules", JOB_RIGHTS) + _defined("leaseRules", LEASE_RIGHTS)


def _defined(name: str, rights: Iterable[Right]) -> str:
    rules = "".join(map(_rule, rights))
    return f'\n{{{{- define "rljob-operator.{name}" -}}}}\nrules:\n{rules}{{{{- end }}}}\n'


def _rule(right: Right) -> str:
    verbs = ", ".join(right.verbs)
    return f"  - apiGroups: [{json.dumps(right.group)}]\n    resources: [{right.resource}]\n    verbs: [{verbs}]\n"
