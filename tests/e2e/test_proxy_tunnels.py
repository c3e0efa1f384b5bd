"""Tunnels to hosts that policy lists and the gateway does not read: untouched, recorded, and never without a record."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from extproc.wire import PROCESSOR_SERVICE
from tests.disks import make_read_only, small_disk
from tests.e2e.gateway import Gateway
from tests.e2e.test_proxy import connect_logged
from tests.e2e.tunnels import (
    API,
    LISTED,
    Answer,
    Far,
    Refused,
    Wire,
    basic,
    chat_body,
    connect_head,
    dialled,
    echo,
    encrypted,
    leading_to,
    list_hosts,
    tunnel,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def echoing(far: Far) -> Iterator[Far]:
    """The far end, as it was found."""
    far.serve = echo
    yield far
    far.serve = echo


async def opened(gateway: Gateway, wire: Wire, host: str = LISTED, *more: bytes) -> Answer:
    """Open a tunnel on a connection, with the bytes that a hasty client sends along."""
    await wire.send(connect_head(f"{host}:443", basic(gateway.token())) + b"".join(more))
    return await wire.answer("CONNECT")


async def start_with_far(gateway: Gateway, far: Far) -> None:
    await gateway.prepare(leading_to(far.port))
    list_hosts(gateway, LISTED)


def check_tunnelled(document: dict[str, Any], received: int, sent: int) -> None:
    assert document["principal"]["name"] == "alice"
    assert document["decision"]["rule"] == "packages"
    request = document["request"]
    assert (request["method"], request["host"], request["path"]) == ("CONNECT", LISTED, f"{LISTED}:443")
    assert (request["endpoint"], request["upstream"]) == ("tunnel", "tunnel")
    assert document["tunnelled"] == {"received": received, "sent": sent}
    assert 0 <= document["timing"]["released"] <= document["timing"]["response_headers"]
    assert document["closed_at"] > document["opened_at"]


async def test_a_tunnel_to_a_listed_host_passes_untouched_and_is_recorded_with_bytes_and_time(
    gateway: Gateway, echoing: Far
) -> None:
    sent = os.urandom(300_000)
    async with dialled(gateway, "127.0.0.2") as wire:
        answer = await opened(gateway, wire)
        assert answer.status == 200
        address = wire.address
        reading = asyncio.create_task(wire.reader.readexactly(len(sent)))
        await wire.send(sent)
        assert await reading == sent
    document = await gateway.document(answer.id)
    check_tunnelled(document, len(sent), len(sent))
    assert (document["outcome"], document["error"]) == ("completed", None)
    assert document["client"]["address"] == address
    assert (await connect_logged(gateway, answer.id))["upstream"] == "tunnel"


async def test_the_far_end_may_end_a_tunnel_in_order_or_not(gateway: Gateway, echoing: Far) -> None:
    async def greet(wire: Wire) -> None:
        await wire.send(b"220 hello")

    async def abort(wire: Wire) -> None:
        await wire.send(b"220 hello")
        await wire.reader.read(100)
        wire.writer.transport.abort()

    for serve, said in ((greet, b""), (abort, b"ehlo")):
        echoing.serve = serve
        async with dialled(gateway) as wire:
            answer = await opened(gateway, wire)
            assert await wire.reader.readexactly(9) == b"220 hello"
            await wire.send(said)
            assert await wire.rest() == b""
        document = await gateway.document(answer.id)
        check_tunnelled(document, len(said), 9)
        assert document["outcome"] == "completed"


async def test_what_is_sent_along_with_a_connect_goes_through_the_tunnel(gateway: Gateway, echoing: Far) -> None:
    second = connect_head(f"{API}:443", basic(gateway.token()))
    async with dialled(gateway) as wire:
        answer = await opened(gateway, wire, LISTED, second)
        assert await wire.reader.readexactly(len(second)) == second
    check_tunnelled(await gateway.document(answer.id), len(second), len(second))


async def test_the_far_end_is_told_nothing_of_the_client(gateway: Gateway, echoing: Far) -> None:
    first: list[bytes] = []

    async def listen(wire: Wire) -> None:
        first.append(await wire.reader.read(65536))

    echoing.serve = listen
    async with dialled(gateway) as wire:
        answer = await opened(gateway, wire)
        await wire.send(b"hello")
        assert await wire.rest() == b""
    assert first == [b"hello"]
    await gateway.document(answer.id)


async def test_a_host_that_has_no_address_or_does_not_answer_is_an_upstream_error(own_gateway: Gateway) -> None:
    """With the production's own way to find hosts."""
    await own_gateway.prepare()
    list_hosts(own_gateway, "nowhere.invalid")
    await own_gateway.start()
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire, "nowhere.invalid")
    assert (answer.status, answer.code) == (503, "upstream.unavailable")
    document = await own_gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("upstream_error", "upstream.unavailable")
    assert document["request"]["host"] == "nowhere.invalid"


async def test_a_far_end_that_is_down_is_an_upstream_error(own_gateway: Gateway) -> None:
    async with Far().listening() as far:
        await start_with_far(own_gateway, far)
    await own_gateway.start()
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
    assert (answer.status, answer.code) == (503, "upstream.unavailable")
    assert (await own_gateway.document(answer.id))["outcome"] == "upstream_error"


# --- the service goes ------------------------------------------------------------------------------------------------


async def test_a_killed_service_ends_open_tunnels_and_they_are_recorded_as_interrupted(
    own_gateway: Gateway, far: Far
) -> None:
    await start_with_far(own_gateway, far)
    await own_gateway.start()
    async with encrypted(own_gateway) as read, dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
        await wire.send(b"hello")
        assert await wire.reader.readexactly(5) == b"hello"
        await own_gateway.kill_service()
        assert await wire.rest() == b""
        # What is read gets through no more, but its connection stands.
        assert (await read.ask("/models")).status in {500, 503}
        with pytest.raises(Refused):
            async with tunnel(own_gateway):
                pass
        await own_gateway.start_service()
        await until_served(own_gateway)
        assert (await read.ask("/chat/completions", body=chat_body())).status == 200
    document = await own_gateway.document(answer.id)
    assert document["outcome"] == "interrupted"
    assert (document["request"]["host"], document["principal"]["name"]) == (LISTED, "alice")


async def until_served(gateway: Gateway) -> None:
    """Wait until Envoy has found the service again."""
    for _ in range(300):
        async with gateway.session.get(f"{gateway.url}/models", headers=gateway.headers()) as response:
            if response.status == 200:
                return
        await asyncio.sleep(0.05)
    raise AssertionError("nothing is served")


async def test_a_stopping_service_ends_open_tunnels_and_records_them(own_gateway: Gateway, far: Far) -> None:
    await start_with_far(own_gateway, far)
    own_gateway.configure(limits={"drain_seconds": 0.5})
    await own_gateway.start()
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
        await wire.send(b"hello")
        assert await wire.reader.readexactly(5) == b"hello"
        await own_gateway.stop_service()
        assert await wire.rest() == b""
    document = await own_gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("interrupted", "gateway.draining")


async def test_a_tunnel_lasts_no_longer_than_an_exchange_may(own_gateway: Gateway, far: Far) -> None:
    await start_with_far(own_gateway, far)
    own_gateway.configure(limits={"total_seconds": 0.5})
    await own_gateway.start()
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
        await wire.send(b"hello")
        assert await wire.reader.readexactly(5) == b"hello"
        assert await wire.rest() == b""
    document = await own_gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("failed", "gateway.timeout")


async def test_a_silent_tunnel_is_ended_by_envoy_and_nothing_else_is(own_gateway: Gateway, far: Far) -> None:
    def impatient(config: dict[str, Any]) -> None:
        leading_to(far.port)(config)
        (proxy,) = (one for one in config["static_resources"]["listeners"] if one["name"] == "proxy")
        routes = proxy["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
        (route,) = (one["route"] for one in routes if one["name"] == "tunnel")
        assert route["idle_timeout"] == "900s"
        route["idle_timeout"] = "0.5s"

    await own_gateway.prepare(impatient)
    list_hosts(own_gateway, LISTED)
    # The service hears nothing of an open tunnel; its own bound on silence is none of it.
    own_gateway.configure(limits={"idle_seconds": 0.1})
    await own_gateway.start()
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
        for _ in range(10):
            await wire.send(b"hello")
            assert await wire.reader.readexactly(5) == b"hello"
            await asyncio.sleep(0.1)
        assert await wire.rest() == b""
    document = await own_gateway.document(answer.id)
    check_tunnelled(document, 50, 50)
    assert (document["outcome"], document["error"]["code"]) == ("failed", "gateway.timeout")


@pytest.mark.parametrize("host", [API, LISTED])
async def test_a_connect_whose_stream_ends_with_ok_before_the_decision_opens_nothing(
    own_gateway: Gateway, far: Far, host: str
) -> None:
    """What a bug in the service would do; Envoy lets the CONNECT go on, to a route that leads nowhere."""

    async def ends_with_ok(_requests: object, context: Any) -> None:
        await context.read()

    await own_gateway.prepare(leading_to(far.port))
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(ends_with_ok)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PROCESSOR_SERVICE, {"Process": handler}),))
    server.add_insecure_port(f"unix:{own_gateway.socket}")
    await server.start()
    await own_gateway.start_envoy()
    taken = far.taken
    for cluster in ("tunnel", "intercepted"):
        with pytest.raises(Refused, match="503"):
            async with tunnel(own_gateway, host, headers=[("x-gateway-upstream", cluster)]):
                pass
    assert far.taken == taken
    await server.stop(0)


# --- recording is impossible -----------------------------------------------------------------------------------------


@pytest.fixture
def disk(own_gateway: Gateway) -> Iterator[Path]:
    with small_disk(own_gateway.state / "spool", 8 << 20) as folder:
        yield folder


async def test_what_cannot_be_recorded_opens_no_tunnel_and_passes_none(
    own_gateway: Gateway, disk: Path, far: Far
) -> None:
    await start_with_far(own_gateway, far)
    own_gateway.configure(recording={"spool": {"max_bytes": 2 << 20, "reserve_bytes": 1 << 20}})
    make_read_only(disk, read_only=True)
    await own_gateway.launch_service()
    await own_gateway.ready(f"http://127.0.0.1:{own_gateway.ports.ops}/healthz")
    await own_gateway.start_envoy()
    taken = far.taken
    for host in (LISTED, "example.com"):
        async with dialled(own_gateway) as wire:
            answer = await opened(own_gateway, wire, host)
        assert (answer.status, answer.code) == (503, "recording.unavailable")
        assert "cannot be recorded" in json.loads(answer.body)["error"]["message"]
    async with encrypted(own_gateway) as wire:
        refused = await wire.ask("/chat/completions", body=chat_body())
        assert (refused.status, refused.code) == (503, "recording.unavailable")
        assert (far.taken, own_gateway.upstream.seen) == (taken, [])
        make_read_only(disk, read_only=False)
        await own_gateway.ready(f"http://127.0.0.1:{own_gateway.ports.ops}/readyz")
        assert (await wire.ask("/chat/completions", body=chat_body())).status == 200
    async with dialled(own_gateway) as wire:
        answer = await opened(own_gateway, wire)
        assert answer.status == 200
    check_tunnelled(await own_gateway.document(answer.id), 0, 0)
