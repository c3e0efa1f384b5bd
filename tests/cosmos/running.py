"""Run the fake account in a thread: the sync SDK blocks whoever calls it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_layout import APPROVALS, DEFAULT_TTL, RECORD
from tests.cosmos.account import Account, Failure
from tests.cosmos.server import KEY, FakeCosmos

APPROVALS_CONTAINER: Final = "approvals"


@contextmanager
def running(
    path: Path | None = None,
    *,
    port: int = 0,
    tokens: Mapping[str, set[str]] | None = None,
    tls: ssl.SSLContext | None = None,
    now: Callable[[], float] = time.time,
    empty: bool = False,
) -> Iterator[FakeCosmos]:
    """Give a running account with the container that `settings` names, unless it is to be `empty`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    account = Account(path, now)
    server = FakeCosmos(account if empty else provisioned(account), tokens=tokens)
    try:
        run(server.start(port, tls))
        yield server
    finally:
        # The SDK looks after regions in threads that outlive its clients: in the middle of a request, even.
        for one in threading.enumerate():
            if one.name == "cosmos-endpoint-refresh":
                one.join(10)
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def settings(server: FakeCosmos, **changes: Any) -> CosmosSettings:
    """Return the settings for a server, with its key."""
    return CosmosSettings(server.url, **{"key": Secret(KEY), "attempt_seconds": 5.0, **changes})


def provisioned(account: Account) -> Account:
    """Make database and containers with the names of the settings' defaults, if they are not there."""
    defaults = CosmosSettings("https://none.example")
    with suppress(Failure):
        account.create_database(defaults.database)
    for name, layout in ((defaults.container, RECORD), ("approvals", APPROVALS)):
        definition = {
            "id": name,
            "partitionKey": {"paths": [layout.partition_key], "kind": "Hash", "version": 2},
            "indexingPolicy": dict(layout.indexing_policy),
            "defaultTtl": DEFAULT_TTL,
        }
        try:
            account.put_container(defaults.database, definition, replace=False)
        except Failure as failure:
            if failure.status != 409:
                raise
    return account
