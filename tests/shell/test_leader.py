"""The lease is free as soon as its holder was told to stop."""

from __future__ import annotations

import pytest

from rljob_operator.cluster.resources import LEASES
from rljob_operator.leader import Leader, Terms

from . import virtual_time
from .memory_api import MemoryApi
from .memory_client import Faults, MemoryClient
from .virtual_time import CLOCK

pytestmark = pytest.mark.usefixtures("virtual_time")
LEASE = LEASES.path("here", "lease")


class CutOff(MemoryClient):
    """Each answer about the lease is followed by a renewal that was still under way, so many times."""

    renewals = 0

    async def send(self, method: str, path: str, *more: object, **options: object) -> dict[str, object]:
        answer = await super().send(method, path, *more, **options)  # type: ignore[arg-type]
        if method == "GET" and self.renewals > 0:
            self.renewals -= 1
            self._api.merge(LEASE, {"spec": {"renewTime": f"renewal {self.renewals}"}})
        return answer


async def holder_after(renewals: int) -> str:
    """Of the lease, once it was released while so many renewals of it were under way."""
    api = MemoryApi(CLOCK.text)
    client = CutOff(api, Faults())
    leader = Leader(client, Terms("here", "lease", "we", 15.0, 5.0))
    await leader.acquire()
    client.renewals = renewals
    await leader.release()
    return str(api.get(LEASE).body["spec"]["holderIdentity"])


@pytest.mark.parametrize("renewals", [0, 1, 2])
def test_a_renewal_under_way_does_not_keep_the_lease(renewals: int) -> None:
    assert virtual_time.run(holder_after(renewals)) == ""
