"""Whether the service's workers listen, and it takes exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from extproc.config import Settings
from extproc.doctor.check import Check, Verdict, failed, ok, reason
from extproc.signin.current import client_session

_RUNNING: Final = "Is the service running here (container extproc)? See its log."


def checks(settings: Settings, base: Path, seconds: float) -> list[Check]:
    """Return a check for each worker, and one for the service; paths of sockets start at `base`."""
    listening = [
        Check(f"worker.{worker}", partial(_listens, settings.listen_of(worker), base), seconds)
        for worker in range(settings.workers)
    ]
    return [*listening, Check("service.ready", lambda: _ready(settings.operations, seconds), seconds)]


async def _listens(addresses: Sequence[str], base: Path) -> Verdict:
    for address in addresses:
        try:
            if address.startswith("unix:"):
                path = base / address.removeprefix("unix:").removeprefix("//")
                _, writer = await asyncio.open_unix_connection(path)
            else:
                host, _, port = address.rpartition(":")
                _, writer = await asyncio.open_connection(_loopback(host), int(port))
        except OSError as error:
            return failed(
                f"No worker listens at {address} ({reason(error)}).",
                _RUNNING,
            )
        writer.transport.abort()
    return ok(f"A worker listens at {', '.join(addresses)}.")


async def _ready(operations: str, seconds: float) -> Verdict:
    host, _, port = operations.rpartition(":")
    url = f"http://{_loopback(host)}:{port}/readyz"
    try:
        async with client_session() as session, asyncio.timeout(seconds), session.get(url) as response:
            told = (await response.text())[:300].strip()
    except OSError:
        return failed(f"Nobody answers at {url}.", _RUNNING)
    if response.status == 200:
        return ok("The service takes exchanges.")
    return failed(f"The service takes no exchanges: {told}", "See the other checks, and the log of the service.")


def _loopback(host: str) -> str:
    """Return where to ask a listener that listens everywhere."""
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
