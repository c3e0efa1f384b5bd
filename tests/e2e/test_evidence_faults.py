"""A full disk, a read-only one, and a store that is away for long: 503, a clear message, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from extproc.recording.entry import Kind, read_head
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from tests.disks import fill, make_read_only, small_disk
from tests.e2e.gateway import Gateway, decision_id
from tests.e2e.load import Pausing, check_verified, said
from tests.e2e.upstream import DONE, plain

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DISK_BYTES = 8 << 20
BOUNDS = {"max_bytes": 2 << 20, "reserve_bytes": 1 << 20}
LONG = "long enough that it fits no last page of a file " * 300
COUNT = itertools.count()
WORDS = [f"word {number} " for number in range(200)]


@pytest.fixture
def disk(own_gateway: Gateway) -> Iterator[Path]:
    """The gateway's spool on a small file system of its own."""
    with small_disk(own_gateway.state / "spool", DISK_BYTES) as folder:
        yield folder


async def refused(gateway: Gateway, path: str = "/chat/completions", text: str = LONG) -> dict[str, Any]:
    """Ask, be refused for want of recording, and return the error."""
    # What was asked before is not written again: a new text takes its room.
    said = {"role": "user", "content": f"{next(COUNT)} {text}"}
    body = {"model": "gpt-5", "max_tokens": 5, "messages": [said]}
    headers = gateway.headers()
    async with gateway.session.post(f"{gateway.url}{path}", headers=headers, data=json.dumps(body)) as response:
        assert response.status == 503, await response.text()
        answer: dict[str, Any] = await response.json()
    assert answer["error"]["code"] == "recording.unavailable"
    assert "cannot be recorded" in answer["error"]["message"]
    assert answer["error"]["decision_id"] == decision_id(response)
    return answer


async def asked(gateway: Gateway, text: str = LONG) -> str:
    """Ask, get an answer, and return the id of the exchange."""
    async with gateway.chat(text=text) as response:
        assert response.status == 200, await response.text()
        await response.read()
    return decision_id(response)


async def ready(gateway: Gateway) -> None:
    await gateway.ready(f"http://127.0.0.1:{gateway.ports.ops}/readyz")


async def not_ready(gateway: Gateway, *words: str) -> None:
    """Wait until /readyz says 503 with these words, for a second in a row."""
    told = ""
    for _ in range(100):
        status, told = await gateway.readiness()
        if status == 503 and all(word in told for word in words):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(f"/readyz does not say {words}: {told}")
    for _ in range(15):
        assert (await gateway.readiness())[0] == 503
        await asyncio.sleep(0.1)


async def check_all(gateway: Gateway, acknowledged: list[str]) -> dict[str, dict[str, Any]]:
    """Stop the service; check that what was acknowledged is recorded, and all of it verifies; return it by id."""
    await gateway.stop_service()
    ledger = SqliteLedger(gateway.state / "record.db")
    heads = [read_head(one.head) for log in ledger.logs() for one in ledger.entries(log, bodies=False)]
    ids = [head.id for head in heads if head.kind is Kind.EXCHANGE]
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids)
    check_verified(gateway, ledger, len(ids))
    return {document["id"]: document for document in SqliteArchive(gateway.state / "record.db").exchanges()}


async def test_a_full_disk_refuses_what_is_new_finishes_what_runs_and_heals(own_gateway: Gateway, disk: Path) -> None:
    await own_gateway.prepare()
    own_gateway.configure(recording={"spool": BOUNDS})
    await own_gateway.start()
    upstream = Pausing(WORDS[:1], WORDS[1:])
    own_gateway.upstream.play(upstream)
    acknowledged = [await asked(own_gateway)]
    async with own_gateway.chat(stream=True) as running:
        received = await running.content.readuntil(b"\n\n")
        filling = fill(disk)
        own_gateway.upstream.seen.clear()
        for _ in range(3):
            await refused(own_gateway)
            assert (await refused(own_gateway, "/v1/messages"))["type"] == "error"
        await not_ready(own_gateway, "spool", "No space left on device")
        upstream.go_on.set()
        received += await running.read()
    assert received.endswith(DONE)
    assert own_gateway.upstream.seen == []
    await refused(own_gateway)
    await not_ready(own_gateway, "spool", "No space left on device")
    filling.unlink()
    await ready(own_gateway)
    acknowledged += [await asked(own_gateway), decision_id(running)]
    documents = await check_all(own_gateway, acknowledged)
    assert said(documents[decision_id(running)]) == "".join(WORDS)
    assert documents[decision_id(running)]["outcome"] == "completed"


async def test_a_spool_at_its_bound_refuses_what_is_new_until_the_store_is_back(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    own_gateway.configure(recording={"spool": {"max_bytes": 256 << 10, "reserve_bytes": 64 << 10}})
    await own_gateway.start()
    own_gateway.upstream.play(plain)
    acknowledged = [await asked(own_gateway)]
    await own_gateway.document(acknowledged[0])
    with closing(sqlite3.connect(own_gateway.state / "record.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(1000):
            async with own_gateway.chat(text=f"{number} {LONG}") as response:
                if response.status == 503:
                    break
                assert response.status == 200
                await response.read()
            acknowledged.append(decision_id(response))
        own_gateway.upstream.seen.clear()
        await refused(own_gateway)
        await not_ready(own_gateway, "full", "wait for the store")
        assert own_gateway.upstream.seen == []
        other.execute("ROLLBACK")
    await ready(own_gateway)
    acknowledged.append(await asked(own_gateway))
    assert len(acknowledged) > 5
    await check_all(own_gateway, acknowledged)


async def test_a_read_only_spool_lets_nothing_through_and_heals(own_gateway: Gateway, disk: Path) -> None:
    await own_gateway.prepare()
    own_gateway.configure(recording={"spool": BOUNDS})
    make_read_only(disk, read_only=True)
    await own_gateway.launch_service()
    await own_gateway.ready(f"http://127.0.0.1:{own_gateway.ports.ops}/healthz")
    await own_gateway.start_envoy()
    await not_ready(own_gateway, "spool", "Read-only file system")
    for path in ("/chat/completions", "/v1/messages"):
        await refused(own_gateway, path)
    async with own_gateway.session.get(f"{own_gateway.url}/models", headers=own_gateway.headers()) as response:
        assert response.status == 503
    assert own_gateway.upstream.seen == []
    make_read_only(disk, read_only=False)
    await ready(own_gateway)
    await check_all(own_gateway, [await asked(own_gateway)])
