"""An operator without one of its fences, by name: `unfenced.py guard …`. Bugs that tests of fencing must catch."""

from __future__ import annotations

import sys
from typing import Any

from rljob_operator.__main__ import main
from rljob_operator.cluster import client
from rljob_operator.cluster.resources import JOBS
from rljob_operator.cluster.writer import Writer
from rljob_operator.leader import Leader


async def put_status(self: Any, manifest: Any) -> Any:
    """As a merge patch, which carries no version."""
    metadata, merge = manifest["metadata"], "application/merge-patch+json"
    path = JOBS.path(metadata["namespace"], metadata["name"], "status")
    return await self._send("PATCH", path, {"status": manifest["status"]}, content_type=merge)


async def delete(self: Any, resource: Any, namespace: str, name: str, *_: Any) -> None:
    """Whoever has the name."""
    await self._send("DELETE", resource.path(namespace, name), {"apiVersion": "v1", "kind": "DeleteOptions"})


BUGS = {
    "guard": (Leader, "guard", lambda self: None),
    "version": (Writer, "put_status", put_status),
    "uid": (Writer, "delete", delete),
}

if __name__ == "__main__":
    client.REQUEST_SECONDS = 1000.0  # it hears the answer to what it asked, however long it slept
    setattr(*BUGS[sys.argv.pop(1)])
    sys.exit(main())
