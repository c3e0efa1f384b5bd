"""Ask the services what goes on now: streams open, and whether they take exchanges."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from extproc.keys.fetch import read_bounded

TIMEOUT_SECONDS: Final = 2.0
MAX_ADDRESSES: Final = 100
MAX_BYTES: Final = 4 * 1024 * 1024
_OPEN: Final = re.compile(rb"^extproc_streams_open(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Now:
    """How the services stand: streams open in those that answered, and how many of `all` did."""

    streams: int
    answered: int
    all: int


async def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Services:
    """The services at these base addresses of their `operations`.

    A name with several addresses (in Kubernetes a headless Service) stands for a service at each, `MAX_ADDRESSES` at
    most.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        session: aiohttp.ClientSession,
        resolve: Callable[[str, int], Awaitable[list[str]]] = resolved,
    ) -> None:
        self._addresses = addresses
        self._session = session
        self._resolve = resolve

    async def now(self) -> Now:
        """Return how they stand; one that does not answer in time counts as not there."""
        found = await asyncio.gather(*(self._all_streams(URL(one)) for one in self._addresses))
        every = [one for some in found for one in some]
        answered = [one for one in every if one is not None]
        return Now(sum(answered), len(answered), len(every))

    async def _all_streams(self, address: URL) -> list[int | None]:
        host, port = address.host or "", address.port or 0
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                there = await self._resolve(host, port)
        except (TimeoutError, OSError, UnicodeError):
            return [None]
        return await asyncio.gather(*(self._streams(address, one) for one in there[:MAX_ADDRESSES]))

    async def _streams(self, address: URL, host: str) -> int | None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        # It is spoken to by its name, and so is its certificate checked.
        where, named = address.with_host(host) / "metrics", {"Host": address.authority}
        try:
            async with self._session.get(
                where, headers=named, timeout=timeout, allow_redirects=False, server_hostname=address.host
            ) as response:
                text = await read_bounded(response, MAX_BYTES)
            if response.status != 200 or text is None:
                return None
            return sum(round(float(one)) for one in _OPEN.findall(text))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, OverflowError):
            return None
