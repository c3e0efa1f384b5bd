"""Exchanges of which nothing is heard for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.upstream import Call, answer_json

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


def _pings_often(config: dict[str, Any]) -> None:
    for cluster in config["static_resources"]["clusters"]:
        for protocol in cluster.get("typed_extension_protocol_options", {}).values():
            options = protocol.get("explicit_http_config", {}).get("http2_protocol_options", {})
            if "connection_keepalive" in options:
                options["connection_keepalive"] = {"interval": "0.05s", "timeout": "10s"}


async def test_keep_alive_pings_do_not_end_an_exchange_that_waits(own_gateway: Gateway) -> None:
    await own_gateway.prepare(_pings_often)
    assert "0.05s" in (own_gateway.state / "envoy.yaml").read_text()
    await own_gateway.start()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def late(call: Call) -> None:
        asked.set()
        await answer.wait()
        await call.whole(answer_json("late"))

    own_gateway.upstream.play(late)

    async def ask() -> int:
        async with own_gateway.chat() as response:
            await response.read()
            return int(response.status)

    asking = asyncio.create_task(ask())
    await asked.wait()
    # gRPC's own bound is two pings without data (grpc.http2.max_ping_strikes): Envoy has time for ten here.
    await asyncio.sleep(0.5)
    answer.set()
    assert await asking == 200
