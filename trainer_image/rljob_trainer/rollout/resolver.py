"""Names of servers while the cluster's DNS does not answer: the address from before is as good as any."""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

PATIENCE_SECONDS = 2.0
"""A name server that is well answers within milliseconds; the system's own patience is many times longer."""

Asked = tuple[str, int, socket.AddressFamily]


class LastKnown(AbstractResolver):
    """Asks the system; where that gets no answer, gives what it got before. That a name does not exist is an answer."""

    def __init__(self, system: AbstractResolver | None = None) -> None:
        self._system = system or ThreadedResolver()
        self._known: dict[Asked, list[ResolveResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `OSError` for a name that does not exist, or that was never resolved."""
        asked = (host, port, family)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._known[asked] = await self._system.resolve(host, port, family)
        except OSError as error:  # TimeoutError is one
            if _is_answer(error) or asked not in self._known:
                raise OSError(f"{host} has no address: {str(error) or 'no name server answers'}") from error
        return self._known[asked]

    async def close(self) -> None:
        await self._system.close()


def _is_answer(error: OSError) -> bool:
    return isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
