"""What the operator asked of the API server, by the API server's own audit log: counts that nobody has to guess.

For `fleet` and `writes`. Writing the log takes some of the API server's time, so nothing is timed against a floor
while it is on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.operators import NAMESPACE
from shell.places import ACCOUNT

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
Asked = tuple[str, str]
"""Verb and resource, as the audit log has them: a LIST is no GET there."""


@dataclass(frozen=True)
class Audit:
    """The log of one API server that was started with `flags`."""

    folder: Path

    @property
    def flags(self) -> list[str]:
        """Only the operator's requests, one line each, written before it gets its answer."""
        policy = self.folder / "audit.json"
        user = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
        rules = [{"level": "Metadata", "users": [user], "omitStages": ["RequestReceived"]}, {"level": "None"}]
        policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self._log}", "--audit-log-maxsize=1000"]

    def asked(self) -> Counter[Asked]:
        """All requests so far that ended, but for those that renew the Lease."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        found = Counter((line["verb"], line.get("objectRef", {}).get("resource", "")) for line in lines)
        return Counter({asked: count for asked, count in found.items() if asked[1] != "leases"})

    def wait_for_silence(self, quiet_seconds: float = 3.0, within_seconds: float = 300.0) -> None:
        """Until the operator has written nothing for so long. Raises `AssertionError`."""
        deadline, before = time.monotonic() + within_seconds, -1
        while (now := writes(self.asked())) != before:
            assert time.monotonic() < deadline, f"the operator still writes: {self.asked()}"
            before = now
            time.sleep(quiet_seconds)

    @property
    def _log(self) -> Path:
        return self.folder / "audit.log"


def writes(asked: Counter[Asked]) -> int:
    return sum(count for (verb, _), count in asked.items() if verb in WRITES)


def gets(asked: Counter[Asked]) -> int:
    return sum(count for (verb, _), count in asked.items() if verb == "get")
