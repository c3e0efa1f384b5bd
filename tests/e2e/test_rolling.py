"""Workers that are replaced one by one, behind the real Envoy and under load."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.test_workers import asked, both_ready, first_words, pids, processes, start, talking
from tests.e2e.upstream import DONE, Call, plain
from tests.metrics_of import parsed

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

LONG = 8


@dataclass
class Clients:
    """Those that ask all the time, some of which hang up, and what each got."""

    gateway: Gateway
    statuses: Counter[int] = field(default_factory=Counter)
    expected: dict[str, str] = field(default_factory=dict)
    """Outcomes by decision id."""
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stay: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody hangs up any more."""

    async def upstream(self, call: Call) -> None:
        """Answer at once, or where it is asked to stay, not to the end before it is told to."""
        if b"stay" not in call.seen.body:
            await plain(call)
            return
        await talking(self.finish)(call)

    async def stays(self, outcome: str) -> aiohttp.ClientResponse:
        """Open a stream that does not end by itself."""
        response: aiohttp.ClientResponse = await self.gateway.chat(stream=True, text="stay").__aenter__()
        self.statuses[response.status] += 1
        if response.status == 200:
            self.expected[decision_id(response)] = outcome
            await first_words(response)
        return response

    async def ask(self) -> None:
        """Ask and get the answer, as long as it is not told to stop."""
        while not self.stop.is_set():
            async with self.gateway.chat() as response:
                await response.read()
                self.statuses[response.status] += 1
                if response.status == 200:
                    self.expected[decision_id(response)] = "completed"
            await asyncio.sleep(0.01)

    async def hang_up(self) -> None:
        """Begin to hear an answer and hang up, as long as it is not told to stay."""
        while not self.stay.is_set():
            (await self.stays("aborted")).close()
            await asyncio.sleep(0.05)


async def said(gateway: Gateway, message: str, times: int = 1) -> None:
    await until(lambda: (gateway.state / "serve.log").read_text().count(f'"{message}"') == times, message, 120)


def hang_up_on(gateway: Gateway) -> None:
    assert gateway.service is not None
    os.kill(gateway.service.pid, signal.SIGHUP)


@pytest.mark.parametrize("transport", ["http2", "grpc"])
async def test_a_roll_under_load_is_noticed_by_nobody(own_gateway: Gateway, transport: str) -> None:
    await own_gateway.prepare()
    await start(own_gateway, transport=transport)
    clients = Clients(own_gateway)
    own_gateway.upstream.play(clients.upstream)
    before = pids(own_gateway)
    stay = [await clients.stays("completed") for _ in range(LONG)]
    leave = [await clients.stays("aborted") for _ in range(LONG)]
    asking = [asyncio.create_task(one()) for one in (clients.ask, clients.ask, clients.ask, clients.hang_up)]
    hang_up_on(own_gateway)
    await said(own_gateway, "rolled")
    assert len(processes(own_gateway)) == 4
    # Their workers were replaced: what Envoy says of their ends goes elsewhere.
    for response in leave:
        response.close()
    clients.stay.set()
    await asking[-1]
    clients.finish.set()
    assert all([DONE in await response.content.read() for response in stay])
    await until(lambda: len(processes(own_gateway)) == 2, "the end of those that were replaced")
    clients.stop.set()
    await asyncio.gather(*asking)
    assert not set(pids(own_gateway).values()) & set(before.values())
    assert clients.statuses == {200: len(clients.expected)}
    # A look that was under way when the one before ended may count against its successor, until the next one.
    await both_ready(own_gateway)
    outcomes = {one: (await own_gateway.document(one))["outcome"] for one in clients.expected}
    assert outcomes == clients.expected
    url = f"http://127.0.0.1:{own_gateway.ports.ops}/metrics"
    async with own_gateway.session.get(url) as response:
        found = parsed(await response.text())
    assert found["extproc_worker_restarts_total", ("roll",)] == 2
    assert found["extproc_workers", ("leaving",)] == 0
    counted = Counter({labels[1]: n for (name, labels), n in found.items() if name == "extproc_exchanges_total"})
    assert counted == Counter(clients.expected.values())


async def test_a_configuration_that_cannot_be_used_leaves_the_workers_that_run(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    before = processes(own_gateway)
    settings = (own_gateway.state / "gateway.yaml").read_text()
    key = (own_gateway.state / "checkpoint.key").read_bytes()
    (own_gateway.state / "gateway.yaml").write_text("workers: [")
    hang_up_on(own_gateway)
    await said(own_gateway, "not rolled", 1)
    # The supervisor does not read this one.
    (own_gateway.state / "gateway.yaml").write_text(settings)
    (own_gateway.state / "checkpoint.key").write_text("not a key")
    hang_up_on(own_gateway)
    await said(own_gateway, "not rolled", 2)
    assert processes(own_gateway) == before
    assert await asked(own_gateway) == 200
    (own_gateway.state / "checkpoint.key").write_bytes(key)
    policy = own_gateway.state / "policy.yaml"
    policy.write_text(f"{policy.read_text()}\n# changed\n")
    hang_up_on(own_gateway)
    await said(own_gateway, "rolled")
    assert await asked(own_gateway) == 200
    await until(lambda: len(processes(own_gateway)) == 2, "the end of those that were replaced")
    assert not processes(own_gateway).keys() & before.keys()
    async with own_gateway.session.get(f"http://127.0.0.1:{own_gateway.ports.ops}/metrics") as response:
        found = parsed(await response.text())
    digest = hashlib.sha256(policy.read_bytes()).hexdigest()
    assert [labels for name, labels in found if name == "extproc_policy_info"] == [(digest,)]


async def test_the_end_of_the_service_in_a_roll_lets_all_generations_finish(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    clients = Clients(own_gateway)
    own_gateway.upstream.play(clients.upstream)
    open_ = [await clients.stays("completed") for _ in range(LONG)]
    hang_up_on(own_gateway)
    await said(own_gateway, "a worker was replaced")
    open_ += [await clients.stays("completed") for _ in range(LONG)]
    assert own_gateway.service is not None
    stopping = asyncio.create_task(own_gateway.stop_service())
    # The supervisor's, and those of three processes, or of four.
    await until(lambda: (own_gateway.state / "serve.log").read_text().count('"draining"') >= 4, "the drain")
    clients.finish.set()
    assert all([DONE in await response.content.read() for response in open_])
    await stopping
    assert processes(own_gateway) == {}
    assert {one: (await own_gateway.document(one))["outcome"] for one in clients.expected} == clients.expected
    assert [path.name for path in own_gateway.state.glob("*.sock*") if path.name not in ("0.sock", "1.sock")] == []


async def test_one_worker_that_is_told_to_end_refuses_nothing(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await start(own_gateway)
    clients = Clients(own_gateway)
    asking = [asyncio.create_task(clients.ask()) for _ in range(3)]
    before = pids(own_gateway)
    os.kill(before[1], signal.SIGTERM)
    await until(lambda: pids(own_gateway).get(1, before[1]) != before[1], "the next one")
    await both_ready(own_gateway)
    clients.stop.set()
    await asyncio.gather(*asking)
    assert clients.statuses == {200: len(clients.expected)}
