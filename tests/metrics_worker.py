"""A worker process that shares its metrics in the folder of the environment: it counts, and serves `/metrics`.

Arguments: how many exchanges it finished, how many streams it has open.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from aiohttp import web

from extproc.metrics import Metrics
from extproc.metrics_labels import Labels
from extproc.metrics_shared import FOLDER_VARIABLE
from extproc.metrics_state import State
from extproc.operations import make_app
from tests.metrics_of import recording, told


async def main(exchanges: int, streams: int) -> None:
    metrics = Metrics(Labels(["gpt-5"]), shared=Path(os.environ[FOLDER_VARIABLE]))
    metrics.describe("1.2.3", "d" * 64)
    for _ in range(exchanges):
        metrics.observe(told(), 102.0)
    metrics.streams_open.inc(streams)
    spool = {"spool_bytes": 1000 * streams, "checkpoint_age_seconds": 10 * streams}
    state = State(recording(**spool, store_retries=streams, chain_index=exchanges), approvals_waiting=streams)
    runner = web.AppRunner(make_app(metrics, lambda: None, lambda: state))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    metrics.update(state)
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - who started it reads it
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
