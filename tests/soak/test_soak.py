"""The whole service under mixed load for long: every answer right, every exchange recorded, nothing left behind.

`make soak` runs it for ten minutes (SOAK_SECONDS), `make test` for some seconds. TRANSPORT is the setting of that name.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from random import Random
from typing import Any

import pytest

from extproc.recording.entry import Kind, read_head
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from tests.e2e.gateway import Gateway, until
from tests.e2e.load import check_verified, everything_arrives
from tests.metrics_of import parsed
from tests.soak.load import CLIENTS, Load, answering, question_of
from tests.soak.process import Watch, descriptors

pytestmark = [pytest.mark.e2e]

SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
TRANSPORT = os.environ.get("TRANSPORT", "http2")

ALLOWED_BYTES = 16 << 20
"""Growth of memory that means nothing: what allocators keep after the largest bodies that happened to coincide."""
ALLOWED_BYTES_EACH = 100
"""Growth for each exchange that means nothing in a run that is long enough to see it: a leak of an object is more."""
SPARE_DESCRIPTORS = 2 * CLIENTS
"""Connections between the service and others that stay open for their next use."""


async def test_a_long_mixed_load_is_served_right_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway()
    try:
        await gateway.prepare()
        gateway.configure(transport=TRANSPORT)
        gateway.upstream.play(answering)
        await gateway.start()
        await _soaked(gateway, capsys)
    finally:
        await gateway.stop()


async def _soaked(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway.service is not None
    process = gateway.service.pid
    load = Load(gateway, Random(20261123))  # noqa: S311 - the same mix in every run
    await load.run(min(SECONDS / 4, 5.0))
    await _idle(gateway)
    before = descriptors(process)
    watch = Watch(process)
    watching = asyncio.create_task(watch.run(SECONDS / 200, load.done))
    await load.run(SECONDS)
    watching.cancel()
    await _idle(gateway)
    grown, done = watch.growth()
    with capsys.disabled():
        held = f"{watch.course()} MiB, {grown / 1024:+.0f} KiB over {done} exchanges"
        print(f"\n{TRANSPORT}: {load.asked} exchanges, {held}, {dict(load.done)}")  # noqa: T201 - a run by hand shows it
    assert load.faults == []
    assert len(load.done) == 7, "not all kinds of clients came"
    assert grown <= ALLOWED_BYTES + ALLOWED_BYTES_EACH * done
    await until(lambda: descriptors(process) <= before + SPARE_DESCRIPTORS, f"return to {before} descriptors")
    await everything_arrives(gateway)
    _check_record(gateway, load)
    _check_logs(gateway)


async def _idle(gateway: Gateway) -> None:
    """Wait until no exchange runs."""
    for _ in range(200):
        async with gateway.session.get(f"http://127.0.0.1:{gateway.ports.ops}/metrics") as response:
            samples = parsed(await response.text())
        if not samples["extproc_streams_open", ()]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("streams stay open though no client is there")


def _check_record(gateway: Gateway, load: Load) -> None:
    """Check that each exchange is recorded once, and ended as its client knows it did."""
    path = gateway.state / "record.db"
    ledger = SqliteLedger(path)
    heads = [read_head(one.head) for log in ledger.logs() for one in ledger.entries(log, bodies=False)]
    ids = [head.id for head in heads if head.kind is Kind.EXCHANGE]
    assert len(ids) == len(set(ids))
    seen: Counter[int] = Counter()
    wrong = []
    for document in SqliteArchive(path).exchanges():
        number = _number(document)
        if number is None:
            # The question of a client that was cut off in the middle of it.
            wrong += [] if document["outcome"] == "aborted" else [f"no question: {document['outcome']}"]
            continue
        seen[number] += 1
        if document["outcome"] not in load.expected[number]:
            wrong.append(f"{number}: {document['outcome']}, not {load.expected[number]}")
    assert wrong == []
    assert [number for number, count in seen.items() if count > 1] == []
    missing = load.expected.keys() - seen.keys()
    assert [number for number in missing if "never seen" not in load.expected[number]] == []
    check_verified(gateway, ledger, len(ids))


def _number(document: dict[str, Any]) -> int | None:
    messages = (document["request"] or {}).get("messages")
    return question_of(json.dumps({"messages": messages}).encode()).number if messages else None


def _check_logs(gateway: Gateway) -> None:
    """Check that nobody complained."""
    lines = (gateway.state / "serve.log").read_text().splitlines()
    levels = {json.loads(line)["level"] for line in lines if line.startswith("{")}
    assert [line for line in lines if not line.startswith("{")] == []
    assert levels <= {"debug", "info"}, [line for line in lines if '"level":"info"' not in line][:5]
    envoy = (gateway.state / "envoy.log").read_text().splitlines()
    assert [line for line in envoy if "][error]" in line or "][critical]" in line] == []
