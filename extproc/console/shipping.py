"""Ship what the console records: beside the service, which does the same, or where no service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from extproc import stores
from extproc.config_recording import Places
from extproc.recorder import line_fingerprints, outlets_of, recovering
from extproc.shipping.shipper import Shipper


@asynccontextmanager
async def shipping(places: Places, session: aiohttp.ClientSession, now: Callable[[], float]) -> AsyncIterator[None]:
    """Ship and sign the logs of the spool that nobody else holds, until left; what is left then goes at the next start.

    Locks keep two processes with the same spool from shipping the same log. Raises ConfigError.
    """

    def lines(document: Mapping[str, Any]) -> list[str]:
        return line_fingerprints(places)(document)

    def recover(folder: Path) -> int:
        # Keys are asked for only where an exchange of a dead gateway is to be ended: in a state directory of its own
        # there is none, and keys that are made there would be wrong ones.
        envelope = stores.envelope_of(places, create=False)
        return recovering(now=now, lines=lines, envelope=envelope)(folder)

    async with AsyncExitStack() as stack:
        outlets = await outlets_of(places, stack, session=session, now=now)
        shipper = Shipper(places.spool, outlets, recover)
        stack.push_async_callback(shipper.aclose)
        shipper.start()
        yield
