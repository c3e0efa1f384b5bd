"""Run the fake account as a process of its own, to be killed: `python -m tests.cosmos FILE PORT`.

It has what `extproc.store.cosmos.CosmosSettings` expects by default, and prints its address when it is ready. Faults
are sent to it as JSON: `POST /_faults`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from tests.cosmos.account import Account
from tests.cosmos.running import provisioned
from tests.cosmos.server import FakeCosmos


async def _run(path: Path, port: int) -> None:
    server = FakeCosmos(provisioned(Account(path, time.time)))
    await server.start(port)
    print(server.url, flush=True)  # noqa: T201 - whoever starts it waits for this line
    await asyncio.Event().wait()


asyncio.run(_run(Path(sys.argv[1]), int(sys.argv[2])))
