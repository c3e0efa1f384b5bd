"""Ask the services what goes on now: streams open, and whether they take exchanges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from extproc.keys.fetch import read_bounded

TIMEOUT_SECONDS: Final = 2.0
MAX_BYTES: Final = 4 * 1024 * 1024
_OPEN: Final = re.compile(rb"^extproc_streams_open(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Now:
    """How the services stand: streams open in those that answered, and how many of `all` did."""

    streams: int
    answered: int
    all: int


class Services:
    """The services at these base addresses of their `operations`."""

    def __init__(self, addresses: Sequence[str], session: aiohttp.ClientSession) -> None:
        self._addresses = addresses
        self._session = session

    async def now(self) -> Now:
        """Return how they stand; one that does not answer in time counts as not there."""
        found = await asyncio.gather(*(self._streams(one) for one in self._addresses))
        answered = [one for one in found if one is not None]
        return Now(sum(answered), len(answered), len(found))

    async def _streams(self, address: str) -> int | None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with self._session.get(f"{address}/metrics", timeout=timeout, allow_redirects=False) as response:
                text = await read_bounded(response, MAX_BYTES)
            if response.status != 200 or text is None:
                return None
            return sum(round(float(one)) for one in _OPEN.findall(text))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, OverflowError):
            return None
