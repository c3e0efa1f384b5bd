"""What unmodified clients get through the forward proxy, on the real Envoy."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from extproc.identity.gateway_token import GatewayTokens
from extproc.identity.principal import Principal
from extproc.intercepted import DEFAULT_HOSTS
from extproc.keys.gateway_token_key import FILE_NAME, load_or_create_key
from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.tunnels import API, Wire, basic, chat_body, encrypted, http2, trusting
from tests.e2e.upstream import DONE, Call, answer_json, event

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

IDLE_TUNNELS = 1000
LEEWAY_SECONDS = 60
"""For so long after its `exp` the gateway takes a token of the dev issuer."""


async def connect_logged(gateway: Gateway, tunnel_id: str) -> dict[str, Any]:
    """Return Envoy's line about a CONNECT, which it writes when the tunnel ends."""
    lines = await until(
        lambda: [one for one in gateway.access_log() if one["decision_id"] == tunnel_id], "the log of the CONNECT"
    )
    assert [line["method"] for line in lines] == ["CONNECT"]
    return dict(lines[0])


# --- exchanges inside ------------------------------------------------------------------------------------------------


async def test_chats_inside_a_tunnel_are_answered_and_recorded_under_who_opened_it(gateway: Gateway) -> None:
    async with encrypted(gateway, client="127.0.0.2") as wire:
        answers = [await wire.ask("/chat/completions", body=chat_body(stream=stream)) for stream in (False, True)]
        address = wire.address
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answer_json()
    assert answers[1].body == b"".join([event("hel"), event("lo"), event(finish="stop"), DONE])
    documents = [await gateway.document(answer.id) for answer in answers]
    for document in documents:
        assert document["outcome"] == "completed"
        assert document["principal"]["name"] == "alice"
        assert document["client"]["address"] == address
        assert address.startswith("127.0.0.2:")
        assert (document["request"]["host"], document["request"]["path"]) == (API, "/chat/completions")
        assert document["response"]["text"] == "hello"
    (tunnel_id,) = {document["client"]["tunnel"] for document in documents}
    logged = await connect_logged(gateway, tunnel_id)
    assert (logged["authority"], logged["upstream"], logged["client"]) == (f"{API}:443", "intercepted", "127.0.0.2")


async def test_an_exchange_without_a_tunnel_says_so(gateway: Gateway) -> None:
    async with gateway.chat() as response:
        await response.read()
    assert (await gateway.document(decision_id(response)))["client"]["tunnel"] is None


async def test_http2_inside_a_tunnel_carries_many_exchanges_at_a_time(gateway: Gateway) -> None:
    async with http2(gateway) as client:
        streams = [await client.ask("/chat/completions", body=chat_body(stream=number % 2 == 1)) for number in range(8)]
        answers = [await client.answer(stream) for stream in reversed(streams)]
        models = await client.answer(await client.ask("/models"))
    assert [answer.status for answer in (*answers, models)] == [200] * 9
    assert answers[1].body == answer_json()
    assert answers[0].body.endswith(DONE)
    documents = [await gateway.document(answer.id) for answer in answers]
    assert {document["principal"]["name"] for document in documents} == {"alice"}
    assert len({document["client"]["tunnel"] for document in documents}) == 1
    assert len({document["id"] for document in documents}) == 8


async def test_aiohttp_with_nothing_but_a_proxy_and_our_ca_works(gateway: Gateway) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"https://{API}/chat/completions",
            data=chat_body(stream=True),
            proxy=f"http://me:{gateway.token()}@127.0.0.1:{gateway.ports.proxy}",
            ssl=trusting(gateway),
        ) as response,
    ):
        assert response.status == 200
        assert (await response.read()).endswith(DONE)
    document = await gateway.document(decision_id(response))
    assert (document["outcome"], document["principal"]["name"]) == ("completed", "alice")


async def test_every_host_of_the_clients_is_served_with_a_certificate_of_its_name(gateway: Gateway) -> None:
    for host in DEFAULT_HOSTS:
        async with encrypted(gateway, host) as wire:
            answer = await wire.ask("/nothing-known", host=host)
        # A read of GitHub's REST API is let through, at the others this path is unknown.
        assert answer.status == (200 if host == "api.github.com" else 403), host


def alices(gateway: Gateway) -> Principal:
    issuer = gateway.ports.issuer_url
    return Principal(
        id=f"{issuer}#alice", issuer=issuer, subject="alice", name="alice", kind="person",
        groups=frozenset({"developers"}), roles=frozenset(), claims={},
    )  # fmt: skip


def minted(gateway: Gateway, key: bytes) -> str:
    """Return a gateway's token for alice, of the gateway that has this key."""
    return GatewayTokens([key]).mint(alices(gateway), time.time(), "t1").token.reveal()


@pytest.mark.parametrize(
    "clothes",
    [
        "Basic me:{}",
        "basic me:{}",
        "Basic :{}",
        "Basic me:gho_{}",
        "Basic me:github_pat_{}",
        "Bearer {}",
        "Bearer ghu_{}",
    ],
)
async def test_the_connect_takes_an_identity_in_all_its_clothes(gateway: Gateway, clothes: str) -> None:
    scheme, _, credential = clothes.format(gateway.token("bob")).partition(" ")
    user, colon, token = credential.partition(":")
    authorization = basic(token, user).replace("Basic", scheme) if colon else f"{scheme} {credential}"
    async with encrypted(gateway, authorization=authorization) as wire:
        answer = await wire.ask("/models")
    assert answer.status == 200
    assert (await gateway.document(answer.id))["principal"]["name"] == "bob"


async def test_a_token_that_the_gateway_minted_opens_a_tunnel(gateway: Gateway) -> None:
    token = minted(gateway, load_or_create_key(gateway.state / FILE_NAME))
    async with encrypted(gateway, authorization=basic(token)) as wire:
        answer = await wire.ask("/models")
    assert answer.status == 200
    assert (await gateway.document(answer.id))["principal"]["id"] == alices(gateway).id


async def test_the_upstream_sees_only_the_gateways_credential_and_what_is_presented_inside_counts_for_nothing(
    gateway: Gateway,
) -> None:
    token, other = gateway.token(), gateway.token("mallory")
    inside = [
        ("authorization", f"Bearer {other}"), ("x-gateway-authorization", f"Bearer {other}"), ("x-api-key", other),
        ("proxy-authorization", basic(other)), ("proxy-connection", "keep-alive"), ("x-gateway-upstream", "tunnel"),
        ("x-gateway-door", "proxy"), ("x-forwarded-for", "1.2.3.4"), ("cookie", f"token={other}"),
    ]  # fmt: skip
    async with encrypted(gateway, authorization=basic(token)) as wire:
        answer = await wire.ask("/chat/completions", inside, chat_body())
        refused = await wire.ask("/chat/completions", [("authorization", "Bearer gho_notoken")], chat_body())
    assert (answer.status, refused.status) == (200, 200)
    assert (await gateway.document(answer.id))["principal"]["name"] == "alice"
    first, second = gateway.upstream.seen
    for seen in (first, second):
        sent = [value for name, value in seen.headers if name == "authorization"]
        assert sent == [f"Bearer {gateway.credential}"]
        names = {name for name, _ in seen.headers}
        assert not names & {"proxy-authorization", "proxy-connection", "x-api-key", "cookie", "x-forwarded-for"}
        assert not [name for name in names if name.startswith(("x-gateway-", "x-envoy-"))]
        assert token not in repr(seen)
        assert other not in repr(seen)


async def test_clients_that_send_no_authorization_inside_are_who_opened_the_tunnel(gateway: Gateway) -> None:
    async def as_github(call: Call) -> None:
        body = {"/copilot_internal/user": {"login": "gateway", "endpoints": {"api": "https://api.githubcopilot.com"}}}
        await call.whole(json.dumps(body.get(call.seen.target, {})).encode())

    gateway.upstream.play(as_github)
    async with encrypted(gateway, "api.github.com") as wire:
        token = await wire.ask("/copilot_internal/v2/token", host="api.github.com")
        user = await wire.ask("/copilot_internal/user", host="api.github.com")
    given = json.loads(token.body)
    assert (token.status, user.status) == (200, 200)
    assert given["endpoints"]["api"] == f"https://{API}"
    assert json.loads(user.body)["endpoints"] == {"api": f"https://{API}"}
    assert [seen.target for seen in gateway.upstream.seen] == ["/copilot_internal/user"]
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    async with encrypted(gateway) as wire:
        mcp = await wire.ask("/mcp", body=call)
        # What it was given is good at every door.
        assert (await wire.ask("/models", [("authorization", f"Bearer {given['token']}")])).status == 200
    async with gateway.session.get(
        f"{gateway.url}/models", headers={"authorization": f"Bearer {given['token']}"}
    ) as at:
        assert at.status == 200
    host = "copilot-telemetry.githubusercontent.com"
    async with encrypted(gateway, host) as wire:
        telemetry = await wire.ask("/telemetry", body=b'{"event":"x"}', host=host)
    assert (mcp.status, telemetry.status) == (200, 200)
    for answer, kind in ((token, "account"), (user, "account"), (mcp, "mcp"), (telemetry, "telemetry")):
        document = await gateway.document(answer.id)
        assert (document["outcome"], document["request"]["endpoint"]) == ("completed", kind)
        assert document["principal"]["name"] == "alice"


async def test_a_token_that_expires_while_the_tunnel_is_open_buys_no_further_exchange(gateway: Gateway) -> None:
    begin = int(time.time())
    token = gateway.token(iat=begin - 3600, nbf=begin - 3600, exp=begin + 3 - LEEWAY_SECONDS)
    async with encrypted(gateway, authorization=basic(token)) as wire:
        assert (await wire.ask("/models")).status == 200
        while (answer := await wire.ask("/models")).status == 200:
            assert time.time() < begin + 30
            await asyncio.sleep(0.1)
        gateway.upstream.seen.clear()
        again = await wire.ask("/chat/completions", [("authorization", f"Bearer {gateway.token()}")], chat_body())
    assert (answer.status, answer.code) == (401, "identity.expired")
    assert (again.status, again.code) == (401, "identity.expired")
    assert gateway.upstream.seen == []
    assert (await gateway.document(answer.id))["client"]["tunnel"] is not None


async def test_who_may_nothing_may_nothing_inside_a_tunnel_either(gateway: Gateway) -> None:
    async with encrypted(gateway, authorization=basic(gateway.token("mallory"))) as wire:
        answer = await wire.ask("/chat/completions", body=chat_body())
    assert (answer.status, answer.code) == (422, "policy.denied")
    assert gateway.upstream.seen == []


async def test_the_ids_of_a_tunnel_and_of_what_is_inside_are_not_mixed_up(gateway: Gateway) -> None:
    async with encrypted(gateway) as one, encrypted(gateway, authorization=basic(gateway.token("bob"))) as other:
        answers = [await wire.ask("/models") for wire in (one, other, one, other)]
    documents = [await gateway.document(answer.id) for answer in answers]
    assert [document["principal"]["name"] for document in documents] == ["alice", "bob", "alice", "bob"]
    tunnels = [document["client"]["tunnel"] for document in documents]
    assert tunnels[:2] == tunnels[2:]
    assert len({*tunnels, *(document["id"] for document in documents)}) == 6
    lines = await until(
        lambda: [line for line in gateway.access_log() if line["decision_id"] in tunnels[:2]][1:], "both log lines"
    )
    assert {line["upstream"] for line in lines} == {"intercepted"}


# --- many of them ----------------------------------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for so many connections in this process, and in Envoy, which inherits it where it starts after this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8 * IDLE_TUNNELS
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"this test needs {wanted} file descriptors, got {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_idle_tunnels_are_held_while_exchanges_go_on(many_files: None, own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    token, tls = basic(own_gateway.token()), trusting(own_gateway)
    async with AsyncExitStack() as exits:

        async def opened() -> Wire:
            async with opening:
                return await exits.enter_async_context(encrypted(own_gateway, authorization=token, tls=tls))

        opening = asyncio.Semaphore(32)
        wires = await asyncio.gather(*(opened() for _ in range(IDLE_TUNNELS)))
        assert not any(wire.reader.at_eof() for wire in wires)
        for wire in wires[::100]:
            async with own_gateway.chat() as response:
                assert response.status == 200
            assert (await wire.ask("/chat/completions", body=chat_body())).status == 200
        # All of them are still there, and of use.
        assert not any(wire.reader.at_eof() for wire in wires)
        for wire in wires[::10]:
            await wire.send(b"GET /models HTTP/1.1\r\nhost: " + API.encode() + b"\r\n\r\n")
        assert {(await wire.answer()).status for wire in wires[::10]} == {200}
        async with own_gateway.session.get(f"http://127.0.0.1:{own_gateway.ports.ops}/metrics") as metrics:
            text = await metrics.text()
        assert "\nextproc_streams_open 0.0\n" in text
