"""The service at its sockets, asked by Envoy's health checks and by exchanges; what exchanges are is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc import wire
from extproc.carrier import TransportName
from extproc.errors import Code
from extproc.metrics import Metrics
from extproc.outside import Bounds, Outside
from extproc.processor import Processor
from extproc.server import Server
from tests.http2 import wire as http2_wire
from tests.http2.wire_client import connected
from tests.test_processor import CONNECTED, LISTED, PROXY, Call, World, cluster, connect, reply
from tests.test_tunnel import tunnelling

Answer = health_pb2.HealthCheckResponse
BOUNDS = Bounds(max_exchanges=9, idle_seconds=60, total_seconds=600, drain_seconds=0.1, end_reason_seconds=0.01)


class Served:
    """A server, what is around it, and a client."""

    def __init__(self, folder: Path, transport: TransportName, bounds: Bounds = BOUNDS) -> None:
        self.path = f"{folder}/s"
        self.outside = World()
        self.now = 1_760_000_000.0
        around = Outside(
            rules=tunnelling(),
            identities=self.outside,
            credentials=self.outside,
            approvers=self.outside,
            recorder=self.outside,
            metrics=Metrics(),
            bounds=bounds,
            now=lambda: self.now,
        )
        processor = Processor(around, hand_on=self.outside.handed_on.append)
        self.server = Server(processor, bounds, addresses=[f"unix:{self.path}"], transport=transport)

    async def health(self, channel: grpc.aio.Channel, service: str = wire.PROCESSOR_SERVICE) -> int:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status
        return status

    def exchange(self, channel: grpc.aio.Channel) -> Call:
        return channel.stream_stream(f"/{wire.PROCESSOR_SERVICE}/Process")(metadata=PROXY)


async def opened(call: Call) -> None:
    assert cluster(await reply(call, connect(LISTED))) == "tunnel"


@pytest.fixture(params=["http2", "grpc"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    name: TransportName = request.param
    return name


@pytest.fixture
async def served(tmp_path: Path, transport: TransportName) -> AsyncIterator[Served]:
    one = Served(tmp_path, transport)
    await one.server.start()
    async with asyncio.timeout(60):
        yield one
        await one.server.stop()


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{served.path}") as one:
        yield one


async def test_a_lame_server_says_so_and_takes_what_comes_until_envoy_has_heard_it(
    served: Served, channel: grpc.aio.Channel
) -> None:
    running = served.exchange(channel)
    await opened(running)
    assert await served.health(channel) == Answer.SERVING
    served.server.lame()
    assert await served.health(channel) == Answer.NOT_SERVING
    await opened(served.exchange(channel))
    assert (await reply(running, CONNECTED)).response_headers is not None


async def test_health_is_told_of_ext_proc_and_of_all_together_and_of_nothing_else(
    served: Served, channel: grpc.aio.Channel
) -> None:
    assert await served.health(channel, "") == Answer.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.health(channel, wire.ACCESS_LOG_SERVICE)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_that_goes_away_tells_its_peers_and_lets_exchanges_run(
    served: Served, channel: grpc.aio.Channel
) -> None:
    running = served.exchange(channel)
    await opened(running)
    async with connected(served.path) as peer:
        served.server.goaway()
        assert await peer.until(lambda: peer.goaways)
        assert peer.goaways[0] == http2_wire.Code.NO_ERROR
    assert (await reply(running, CONNECTED)).response_headers is not None


async def test_a_stop_is_told_by_health_waits_for_what_runs_and_leaves_its_record(
    tmp_path: Path, transport: TransportName
) -> None:
    served = Served(tmp_path, transport, replace(BOUNDS, drain_seconds=30))
    await served.server.start()
    async with asyncio.timeout(60), grpc.aio.insecure_channel(f"unix:{served.path}") as channel:
        running = served.exchange(channel)
        await opened(running)
        stopping = asyncio.create_task(served.server.stop())
        while await served.health(channel) != Answer.NOT_SERVING:
            assert not stopping.done()
        assert await served.exchange(channel).code() is grpc.StatusCode.UNAVAILABLE
        assert (await reply(running, CONNECTED)).response_headers is not None
        assert not stopping.done()
        running.cancel()
        await stopping
        assert [one["outcome"] for one in served.outside.closings] == ["completed"]


async def test_a_stop_cuts_off_what_still_runs_at_its_bound_and_leaves_its_record(
    served: Served, channel: grpc.aio.Channel
) -> None:
    running = served.exchange(channel)
    await opened(running)
    await served.server.stop()
    assert await running.code() not in {grpc.StatusCode.OK, None}
    assert [one["outcome"] for one in served.outside.closings] == ["interrupted"]


async def test_the_watchdog_cuts_off_what_has_been_idle_for_too_long(served: Served, channel: grpc.aio.Channel) -> None:
    running = served.exchange(channel)
    await opened(running)
    watching = asyncio.create_task(served.server.watch(beat_seconds=0.001))
    served.now += BOUNDS.idle_seconds + 1
    assert await running.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await served.outside.closing())["error"]["code"] == Code.GATEWAY_TIMEOUT
    watching.cancel()
