"""Lead traffic away from an Envoy and wait until nothing runs in it, by its admin interface.

The order was found by trying: from `/healthcheck/fail` on `/ready` says 503, every answer closes its connection
(`connection: close`, GOAWAY), and new connections are served as before. So are they after
`/drain_listeners?graceful&skip_exit`, until Envoy's drain time (`--drain-time-s`, 600 s) is over; without `graceful`
they would be refused at once.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import aiohttp

from extproc.errors import ExtprocError
from extproc.keys.fetch import read_bounded

EXCHANGES: Final = "http.gateway.downstream_rq_active"
"""Requests in all listeners that end in the gateway: also those inside tunnels that are read."""

TUNNELS: Final = "cluster.tunnel.upstream_rq_active"
"""Tunnels that are not read. One that is read and idle runs nothing, so `http.proxy` is not asked."""

_MAX_BYTES: Final = 64 * 1024
_QUIET_POLLS: Final = 2
"""Between two exchanges of a client nothing runs for a moment."""


@dataclass(frozen=True, slots=True)
class Running:
    """How many exchanges and tunnels run."""

    exchanges: int
    tunnels: int

    def __bool__(self) -> bool:
        return bool(self.exchanges or self.tunnels)


async def drain(
    session: aiohttp.ClientSession, admin: str, *, seconds: float, pause: float, poll: float, last: float = 5.0
) -> Running | None:
    """Drain the Envoy at the admin address; return None when nothing runs any more, or what runs after `seconds`.

    Listeners are drained after `pause` seconds: until the endpoints of a Service are updated everywhere, connections go
    on to come. The last answer may come `last` seconds after the end. Raises ExtprocError where Envoy does not answer.
    """
    now = asyncio.get_running_loop().time
    ends = now() + seconds

    # An answer may come late where Envoy has much to do: who gave up before the end would cut off what runs. An Envoy
    # that is gone refuses the connection at once.
    def left_for_answer() -> float:
        return max(ends - now(), last)

    await _asked(session, "POST", f"{admin}/healthcheck/fail", {}, left_for_answer())
    await asyncio.sleep(min(pause, seconds))
    await _asked(session, "POST", f"{admin}/drain_listeners?graceful&skip_exit", {}, left_for_answer())
    quiet = 0
    while True:
        left = await running(session, admin, seconds=left_for_answer())
        quiet = 0 if left else quiet + 1
        if quiet >= _QUIET_POLLS:
            return None
        if (rest := ends - now()) <= 0:
            # It may have become quiet at the last moment.
            return left or None
        await asyncio.sleep(min(poll, rest))


async def running(session: aiohttp.ClientSession, admin: str, *, seconds: float) -> Running:
    """Return what runs now; raises ExtprocError, also where Envoy does not know one of the numbers."""
    names = "|".join(re.escape(name) for name in (EXCHANGES, TUNNELS))
    told = await _asked(session, "GET", f"{admin}/stats", {"filter": f"^({names})$"}, seconds)
    numbers = dict(re.findall(r"^(\S+): ([0-9]+)$", told, re.MULTILINE))
    if missing := {EXCHANGES, TUNNELS} - numbers.keys():
        raise ExtprocError(f"{admin}: Envoy tells nothing of {', '.join(sorted(missing))}: is this the gateway's?")
    return Running(int(numbers[EXCHANGES]), int(numbers[TUNNELS]))


async def _asked(session: aiohttp.ClientSession, method: str, url: str, query: dict[str, str], seconds: float) -> str:
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.request(method, url, params=query, timeout=timeout) as response:
            raw = await read_bounded(response, _MAX_BYTES)
            if response.status != 200 or raw is None:
                raise ExtprocError(f"{url}: Envoy answered with status {response.status}")
            return raw.decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ExtprocError(f"{url}: Envoy's admin interface does not answer ({type(error).__name__})") from None
