"""A namespace of the real API server with an operator's account in it, and the operator as a process of its own."""

from __future__ import annotations

import base64
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builders import manifest
from kube.api import Api, Manifest
from kube.processes import Command, start
from rljob_api.base import GROUP
from rljob_api.crd import PLURAL
from rljob_operator.cluster.resources import JOBS, LEASES, PODS
from rljob_operator.cluster.rights import JOB_RIGHTS, LEASE_RIGHTS
from waiting import WITHIN_S, until

from .proxy import Proxy
from .rooms import set_quota

T = TypeVar("T")

ACCOUNT = "operator"
RBAC = "/apis/rbac.authorization.k8s.io/v1"

OPERATOR: Command = ["-m", "rljob_operator"]
STRICTER: Command = [Path(__file__).with_name("stricter.py")]
"""Has one rule more, which every job breaks."""

BROKEN: Manifest = {"parallelism": {"tensor": 64}}
"""A spec that only a rule refuses."""


@dataclass
class Place:
    """A namespace. All that is asked here is asked as the cluster's administrator."""

    api: Api
    namespace: str
    folder: Path
    operators: list[Operator] = field(default_factory=list)

    def prepare(self) -> None:
        """The namespace, the account that pods need, and one with exactly the operator's rights."""
        self.made(f"{root()}/namespaces", {"metadata": {"name": self.namespace}})
        for account in ("default", ACCOUNT):  # where controllers run, the first comes by itself
            made = self.api.post(f"{root(self.namespace)}/serviceaccounts", {"metadata": {"name": account}})
            assert made.code in (201, 409), made.message
        here = f"{RBAC}/namespaces/{self.namespace}"
        self.made(f"{here}/roles", {"metadata": {"name": ACCOUNT}, "rules": rules()})
        subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
        binding = {"metadata": {"name": ACCOUNT}, "roleRef": reference, "subjects": [subject]}
        self.made(f"{here}/rolebindings", binding)

    def made(self, path: str, body: Manifest) -> Manifest:
        answer = self.api.post(path, body)
        assert answer.code == 201, answer.message
        return answer.body

    def kubeconfig(self, server: str = "") -> Path:
        """Of the operator's account."""
        path = f"{root(self.namespace)}/serviceaccounts/{ACCOUNT}/token"
        token = self.made(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        assert self.api.tls is not None
        (authority,) = self.api.tls.get_ca_certs(binary_form=True)
        pem = ssl.DER_cert_to_PEM_cert(authority).encode()
        cluster = {
            "server": server or self.api.url,
            "certificate-authority-data": base64.b64encode(pem).decode(),
        }
        file = self.folder / f"{len(list(self.folder.iterdir()))}.kubeconfig"
        file.write_text(json.dumps(kubeconfig(cluster, token)))
        return file

    def operator(self, *words: str, proxy: Proxy | None = None, program: Command = OPERATOR) -> Operator:
        """A new one, started."""
        name = f"operator-{len(self.operators)}"
        one = Operator(name, self.folder / f"{name}.log")
        account = str(self.kubeconfig(proxy.url if proxy else ""))
        one.start(program, ["--kubeconfig", account, "--namespace", self.namespace, *words], self.namespace)
        self.operators.append(one)
        return one

    def proxied(self) -> AbstractContextManager[Proxy]:
        """Operators that are given it reach the API server through it."""
        return Proxy(self.api).serving()

    @contextmanager
    def without_rules(self) -> Iterator[None]:
        """The API server keeps specs that break our rules."""
        rules = self._set_rules([])
        try:
            yield
        finally:
            self._set_rules(rules)

    @contextmanager
    def broken_webhook(self, plural: str, operation: str) -> Iterator[None]:
        """An admission webhook has to judge these, and nobody answers."""
        path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        judged = {"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": [plural]}
        webhook = {
            "name": "down.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [judged],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        self.made(path, {"metadata": {"name": self.namespace}, "webhooks": [webhook]})
        try:
            yield
        finally:
            assert self.api.delete(f"{path}/{self.namespace}").code == 200

    @contextmanager
    def any_status(self, name: str = "demo") -> Iterator[None]:
        """The API server takes whatever stands in a status, as one with a newer CRD takes words that ours has not."""
        schema = self._set_status_schema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
        try:
            self._until_strange_words_are(200, name)
            yield
        finally:
            self._set_status_schema(schema)
            self._until_strange_words_are(422, name)

    def _set_status_schema(self, wanted: Manifest) -> Manifest:
        """Returns the one before."""
        before: Manifest = {}

        def change(schema: Manifest) -> None:
            before.update(schema["status"])
            schema["status"] = wanted

        self._change_crd(change)
        return before

    def _until_strange_words_are(self, code: int, name: str) -> None:
        tried = f"{JOBS.path(self.namespace, name, 'status')}?dryRun=All"
        self.until(lambda: self.api.merge(tried, {"status": {"phase": "Strange"}}).code == code)

    def _set_rules(self, wanted: list[Manifest]) -> list[Manifest]:
        """Returns those before, once the new ones hold."""
        before: list[Manifest] = []

        def change(schema: Manifest) -> None:
            before[:] = schema["spec"].get("x-kubernetes-validations", [])
            schema["spec"]["x-kubernetes-validations"] = wanted

        self._change_crd(change)
        bad, code = manifest(**BROKEN) | {"metadata": {"name": "probe"}}, 422 if wanted else 201
        tried = f"{JOBS.path(self.namespace)}?dryRun=All"
        self.until(lambda: self.api.post(tried, bad).code == code)
        return before

    def _change_crd(self, change: Callable[[Manifest], None]) -> None:
        """`change` is called with the schema's properties: again if the API server wrote into the CRD meanwhile."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"

        def put() -> bool:
            found = self.api.get(path).body
            change(found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"])
            answer = self.api.put(path, found)
            assert answer.code in (200, 409), answer.message
            return answer.code == 200

        self.until(put)

    def quota(self, pods: int) -> None:
        """So many at most from now on."""
        set_quota(self.api, self.namespace, pods)

    def submit(self, name: str = "demo", **spec: Any) -> Manifest:
        body = manifest(**spec)
        body["metadata"] = {"name": name}
        return self.made(JOBS.path(self.namespace), body)

    def job(self, name: str = "demo") -> Manifest:
        return self.api.get(JOBS.path(self.namespace, name)).body

    def edit(self, spec: Manifest, name: str = "demo") -> None:
        answer = self.api.merge(JOBS.path(self.namespace, name), {"spec": spec})
        assert answer.code == 200, answer.message

    def status(self, name: str = "demo") -> Manifest:
        return dict(self.job(name).get("status") or {})

    def condition(self, kind: str, name: str = "demo") -> Manifest:
        return condition(self.status(name), kind)

    def pods(self) -> dict[str, Manifest]:
        found = self.api.get(PODS.path(self.namespace)).body["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def lease_holder(self) -> str:
        lease = self.api.get(LEASES.path(self.namespace, "rljob-operator")).body
        return str(lease.get("spec", {}).get("holderIdentity", ""))

    def until(self, happens: Callable[[], T]) -> T:
        """What it gives once it gives something."""
        return until(happens, self.told)

    def until_status(self, holds: Callable[[Manifest], object], name: str = "demo") -> Manifest:
        """The status of which that holds. Look at this one: the next may say something else."""

        def holding() -> list[Manifest]:
            status = self.status(name)
            return [status] if holds(status) else []

        return until(holding, lambda: self.told(name))[0]

    def until_reason(self, kind: str, reason: str, name: str = "demo") -> Manifest:
        """The status whose condition has that reason."""
        return self.until_status(lambda status: condition(status, kind).get("reason") == reason, name)

    def wait_for_pods(self, *names: str) -> None:
        until(lambda: set(self.pods()) == set(names), lambda: f"{names}, but {self.told()}")

    def wait_for_phase(self, phase: str, name: str = "demo") -> Manifest:
        return self.until_status(lambda status: status.get("phase") == phase, name)

    def told(self, name: str = "demo") -> str:
        """What a failed test shows."""
        logs = "\n".join(one.log.read_text()[-3000:] for one in self.operators)
        pods = {name: pod["status"].get("phase") for name, pod in self.pods().items()}
        return f"pods {pods}, status {json.dumps(self.status(name))}\n{logs}"


@dataclass
class Operator:
    """A process."""

    name: str
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, program: Command, words: list[str], namespace: str) -> None:
        here = ["--http-host", "127.0.0.1", "--http-port", "0", "--lease-namespace", namespace]
        command: Command = [sys.executable, *program, "--identity", self.name, *here, *words]
        self.process = start(command, self.log)

    def stop(self) -> int:
        return self.end(signal.SIGTERM)

    def kill(self) -> int:
        return self.end(signal.SIGKILL)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def says(self, words: str) -> bool:
        return words in self.log.read_text()

    def lines(self) -> list[Manifest]:
        """What it logged, once it has ended."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


def condition(status: Manifest, kind: str) -> Manifest:
    """Of that status; nothing if it has none of the kind."""
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def root(namespace: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}" if namespace else "/api/v1"


def rules() -> list[Manifest]:
    return [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)}
        for right in (*JOB_RIGHTS, *LEASE_RIGHTS)
    ]


def kubeconfig(cluster: Manifest, token: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "here", "user": {"token": token}}],
    }
