"""Two workers of one service behind the real Envoy."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from extproc.store.sqlite_ledger import SqliteLedger
from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.tunnels import LISTED, Far, basic, connect_head, dialled, echo, leading_to, list_hosts
from tests.e2e.upstream import DONE, Call, Script, event

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

STREAMS = 12


async def start(gateway: Gateway, **settings: Any) -> None:
    """Start a prepared gateway with two workers."""
    gateway.configure(workers=2, listen=["unix:{worker}.sock"], **settings)
    path = gateway.state / "workers.yaml"
    config = yaml.safe_load(path.read_text())
    sockets = [{"endpoint": {"address": {"pipe": {"path": f"{number}.sock"}}}} for number in range(2)]
    config["resources"][0]["endpoints"][0]["lb_endpoints"] = sockets
    path.write_text(yaml.safe_dump(config))
    await gateway.start_service()
    await gateway.start_envoy()
    await both_ready(gateway)


async def both_ready(gateway: Gateway) -> None:
    for _ in range(600):
        if await gateway.readiness() == (200, "ready\n") and await healthy(gateway) == 2:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the workers did not become ready")


async def healthy(gateway: Gateway) -> int:
    """Return how many workers Envoy gives exchanges to."""
    url = f"http://127.0.0.1:{gateway.ports.admin}/stats?filter=cluster.ext_proc.membership_healthy"
    async with gateway.session.get(url) as response:
        return int((await response.text()).split(": ")[1])


def recorded_by(gateway: Gateway) -> Counter[str]:
    """Return how many entries the log of each worker has in the record, by the worker's number."""
    ledger = SqliteLedger(gateway.state / "record.db")
    return Counter(log.split(".")[-2] for log in ledger.logs() for _ in ledger.entries(log, bodies=False))


def pids(gateway: Gateway) -> dict[int, int]:
    """Return a process of each worker."""
    return {number: process for process, number in processes(gateway).items()}


def processes(gateway: Gateway) -> dict[int, int]:
    """Return the workers' numbers by process, also of those that were replaced and finish."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                line = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(gateway.state / "gateway.yaml").encode() in line and b"--worker" in line:
                found[int(process.name)] = int(line[line.index(b"--worker") + 1])
    return found


def talking(finish: asyncio.Event) -> Script:
    """Return an upstream that says something, and the rest when it is told to."""

    async def talk(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("hello"))
        await finish.wait()
        await call.chunk(event(finish="stop") + DONE)
        await call.end()

    return talk


async def first_words(response: aiohttp.ClientResponse) -> None:
    said = b""
    while b"hello" not in said:
        said += await response.content.readany()


async def test_both_get_exchanges_and_know_who_ended_them_whoever_was_told(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    own_gateway.upstream.play(talking(finish := asyncio.Event()))
    open_ = [await own_gateway.chat(stream=True).__aenter__() for _ in range(STREAMS)]
    await asyncio.gather(*(first_words(one) for one in open_))
    metrics = f"http://127.0.0.1:{own_gateway.ports.ops}/metrics"
    async with own_gateway.session.get(metrics) as response:
        assert re.search(rf"^extproc_streams_open {STREAMS}\.0$", await response.text(), re.MULTILINE)
    for one in open_:
        one.close()
    documents = [await own_gateway.document(decision_id(one)) for one in open_]
    finish.set()
    assert Counter(one["outcome"] for one in documents) == {"aborted": STREAMS}
    recorded = recorded_by(own_gateway)
    assert recorded.keys() == {"0", "1"}
    assert min(recorded.values()) >= STREAMS // 3


async def test_bytes_of_tunnels_are_recorded_whichever_worker_hears_of_them(own_gateway: Gateway, far: Far) -> None:
    await own_gateway.prepare(leading_to(far.port))
    list_hosts(own_gateway, LISTED)
    await start(own_gateway)
    far.serve = echo
    ids = []
    for number in range(8):
        async with dialled(own_gateway) as wire:
            await wire.send(connect_head(f"{LISTED}:443", basic(own_gateway.token())))
            ids.append((await wire.answer("CONNECT")).id)
            await wire.send(b"x" * (number + 1))
            await wire.reader.readexactly(number + 1)
    documents = [await own_gateway.document(one) for one in ids]
    assert [one["tunnelled"] for one in documents] == [{"received": n + 1, "sent": n + 1} for n in range(8)]


async def test_a_worker_that_is_killed_takes_only_its_own_exchanges_along_and_comes_back(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    own_gateway.upstream.play(talking(finish := asyncio.Event()))
    open_ = [await own_gateway.chat(stream=True).__aenter__() for _ in range(STREAMS)]
    await asyncio.gather(*(first_words(one) for one in open_))
    before = pids(own_gateway)
    assert before.keys() == {0, 1}
    os.kill(before[1], signal.SIGKILL)

    async def ended(response: aiohttp.ClientResponse) -> bool:
        try:
            return DONE in await response.content.read()
        except aiohttp.ClientPayloadError:
            return False
        finally:
            response.close()

    waits = [asyncio.create_task(ended(one)) for one in open_]
    await until(lambda: any(one.done() for one in waits), "the end of the killed worker's exchanges")
    await both_ready(own_gateway)
    finish.set()
    whole = await asyncio.gather(*waits)
    assert STREAMS // 3 <= sum(whole) <= STREAMS - STREAMS // 3
    after = pids(own_gateway)
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    documents = [await own_gateway.document(decision_id(one)) for one in open_]
    outcomes = Counter((one["outcome"], was_whole) for one, was_whole in zip(documents, whole, strict=True))
    assert outcomes == {("completed", True): sum(whole), ("interrupted", False): STREAMS - sum(whole)}
    async with own_gateway.chat() as response:
        assert response.status == 200


async def test_both_end_in_order_when_the_service_is_told_to(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    own_gateway.upstream.play(talking(finish := asyncio.Event()))
    open_ = [await own_gateway.chat(stream=True).__aenter__() for _ in range(4)]
    await asyncio.gather(*(first_words(one) for one in open_))
    stopping = asyncio.create_task(own_gateway.stop_service())
    await until(lambda: (own_gateway.state / "serve.log").read_text().count("draining") == 3, "the drain of all")
    finish.set()
    assert all([DONE in await one.content.read() for one in open_])
    await stopping
    assert pids(own_gateway) == {}
    assert not list(own_gateway.state.glob("ends-*.sock"))


async def test_workers_end_with_their_supervisor_and_the_next_one_takes_their_place(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    before = pids(own_gateway)
    await own_gateway.kill_service()
    await until(lambda: pids(own_gateway) == {}, "the end of the workers")
    await own_gateway.start_service()
    await both_ready(own_gateway)
    after = pids(own_gateway)
    assert after.keys() == {0, 1}
    assert not set(after.values()) & set(before.values())
    async with own_gateway.chat() as response:
        assert response.status == 200


async def test_a_configuration_that_no_worker_can_use_is_told_once_and_ends_the_service(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    own_gateway.configure(workers=3, listen=["unix:{worker}.sock"])
    (own_gateway.state / "checkpoint.key").write_text("not a key")
    (own_gateway.state / "checkpoint.key").chmod(0o600)
    await own_gateway.launch_service()
    assert own_gateway.service is not None
    assert await asyncio.wait_for(own_gateway.service.wait(), 30) == 2
    told = (own_gateway.state / "serve.log").read_text()
    assert told.count("expected an Ed25519 key") == 1
    assert "worker 0 cannot use its configuration" in told


async def test_hardly_any_exchange_meets_a_worker_that_is_dead(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    # Stopped, so that nobody starts the worker again meanwhile.
    supervisor = own_gateway.service
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGSTOP)
    try:
        os.kill(pids(own_gateway)[1], signal.SIGKILL)
        statuses = Counter([(await asked(own_gateway)) for _ in range(40)])
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)
    assert statuses[200] >= 38, statuses


async def asked(gateway: Gateway) -> int:
    async with gateway.chat() as response:
        await response.read()
        status: int = response.status
        return status
