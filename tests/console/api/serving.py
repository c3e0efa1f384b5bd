"""The REST API over real stores in a state directory, by uvicorn in a thread, and what is recorded there."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from extproc import config as config_file
from extproc.commands.console import Server, server_of
from extproc.console.api.app import make_api
from extproc.console.composed import make_console
from extproc.dev import files, keys
from extproc.dev.users import DEMO_USERS
from extproc.identities import verifier_of
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.masking.fingerprint import Fingerprints
from extproc.recording.entry import Head, Kind, read_head
from extproc.spool.folders import logs_in
from extproc.spool.reader import LogReader
from extproc.spool.records import Entry
from extproc.store.approvals_port import Answers
from extproc.store.sqlite_approvals import SqliteApprovals
from extproc.store.sqlite_store import SqliteStore
from extproc.tracing.lines import proposed_fingerprints
from tests.evidence import SIGNER, Evidence
from tests.recording_of import Exchange, Log, exchange

SECRET: Final = "made-up-Secret-wörd-1"
CODE: Final = """\
def mean_of(values):
    total = sum(values)

    if not values:
        raise ValueError("no values")
    return total / len(values)
"""
OTHER_CODE: Final = """\
class Ledger:
    def balance_of(self, account):
        return self.entries[account].total_of_everything
"""


def prepared(issuer: Path, folder: Path) -> Path:
    """Make `folder` the state directory of a development gateway whose issuer is served already."""
    folder.mkdir()
    for name in ("gateway.yaml", "policy.yaml", "ports.json", "github-token", keys.KEY_FILE):
        (folder / name).write_bytes((issuer / name).read_bytes())
    return folder


def token(state: Path, user: str, **changes: Any) -> str:
    """Return a token of a demo user."""
    return keys.token_for(state, user, DEMO_USERS[user], **{"now": time.time(), **changes})


def record(state: Path) -> None:
    """Record sessions of alice (s1 with a finding, s2 with code) and of bob (s3, s4 with other code)."""
    issuer, at = files.ports_of(state).issuer_url, time.time() - 600

    def of(user: str, number: int, **facts: Any) -> Exchange:
        opening, closing = exchange(
            f"x{number}", user=user, at=at + number, method="POST", path="/chat/completions", **facts
        )
        opening["principal"]["id"] = f"{issuer}#{user}"
        return opening, closing

    key = load_or_create_key(state / "fingerprint.key")
    finding = {
        "rule": "npm-token",
        "direction": "prompt",
        "where": "messages[0].content",
        "offset": 4,
        "action": "mask",
        "at": 1.5,
        "fingerprint": Fingerprints(key).of(SECRET),
    }
    signed = [of("alice", 1, findings=[finding]), of("alice", 2), of("bob", 3, session="s3", findings=[finding])]
    Evidence(state / "record.db").log("test.0.1", signed)
    (state / "checkpoint.key.pub").write_text(f"{SIGNER.vkey}\n")
    log = Log("test.0.2")
    entries = []
    for number, user, session, code in ((4, "alice", "s2", CODE), (5, "bob", "s4", OTHER_CODE)):
        answered = f"Here:\n```python\n{code}```"
        opening, closing = of(user, number, session=session, answered=answered)
        lines = proposed_fingerprints(closing["response"], key, opening["request"])
        entries.append(log.exchange(opening, closing, lines=lines))

    async def put() -> None:
        store = SqliteStore(state / "record.db")
        await store.put(entries, log.blobs)
        await store.aclose()

    asyncio.run(put())


def accesses(state: Path) -> list[Head]:
    """Return what the spool has of reading."""
    records = [one for folder in logs_in(state / "spool") for _, one in LogReader(folder).read()]
    heads = [read_head(one.head) for one in records if isinstance(one, Entry)]
    return [head for head in heads if head.kind is Kind.ACCESS]


@contextmanager
def serving(state: Path) -> Iterator[str]:
    """Serve the API of a state directory; yield the console's address."""
    listening = socket.create_server(("127.0.0.1", 0))
    loop, started = asyncio.new_event_loop(), threading.Event()
    running: list[Server] = []

    async def serve() -> None:
        config, store = config_file.load(state / "gateway.yaml"), _Store(state)
        async with aiohttp.ClientSession() as session, verifier_of(config, time.time) as verifier:
            console = make_console(config, store.get, session, time.time)
            running.append(server_of(make_api(console, verifier)))
            loop.call_soon(started.set)
            await running[0].serve(sockets=[listening])
        await store.aclose()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        for one in running:
            one.stop()
        thread.join()
        loop.close()
        listening.close()


class _Store:
    def __init__(self, state: Path) -> None:
        self._path = state / "approvals.db"
        self._opened: SqliteApprovals | None = None

    def get(self) -> Answers:
        if self._opened is None:
            self._opened = SqliteApprovals(self._path, instance=None, now=time.time())
        return self._opened

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
