"""The lease: free as soon as its holder was told to stop, kept while a request about it is lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from rljob_operator.cluster.client import REQUEST_SECONDS, ApiError
from rljob_operator.cluster.resources import LEASES
from rljob_operator.leader import Leader, NotLeadingError, Terms

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
        answer = await super().send(method, path, *more, **options)  # type: ignore[arg-type]  # as they came
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


class Swallowed(MemoryClient):
    """The requests with these numbers are never answered, as when a connection is dead and nobody says so."""

    lost: frozenset[int] = frozenset()
    asked = 0

    async def send(self, method: str, path: str, *more: object, **options: object) -> dict[str, object]:
        self.asked += 1
        if self.asked in self.lost:
            await asyncio.sleep(REQUEST_SECONDS)
            raise ApiError(0, "TimeoutError", "no answer from the API server")
        return await super().send(method, path, *more, **options)  # type: ignore[arg-type]  # as they came


async def is_sure_all_the_time(lost: set[int]) -> bool:
    """Whether the holder of the lease may write all the time, for two minutes."""
    client = Swallowed(MemoryApi(CLOCK.text), Faults())
    client.lost = frozenset(lost)
    leader = Leader(client, Terms("here", "lease", "we", 15.0, 5.0))
    await leader.acquire()
    holding = asyncio.create_task(leader.hold())
    try:
        for _ in range(240):
            await asyncio.sleep(0.5)
            leader.guard()
    except NotLeadingError:
        return False
    finally:
        holding.cancel()
    return not holding.done()


@pytest.mark.parametrize("lost", [3, 4])
def test_one_request_that_is_never_answered_costs_no_term(lost: int) -> None:
    """To get the lease takes two requests; to renew it, two more."""
    assert virtual_time.run(is_sure_all_the_time({lost}))
    assert not virtual_time.run(is_sure_all_the_time({lost, lost + 1, lost + 2}))
