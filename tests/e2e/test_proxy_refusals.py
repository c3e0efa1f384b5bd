"""What the forward proxy refuses: clearly, without a byte to any upstream, and on record."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.certificates import operations
from extproc.dev import files, keys, users
from extproc.errors import Code
from extproc.identity.gateway_token import KEY_BYTES
from tests.e2e.gateway import Gateway, until
from tests.e2e.test_proxy import connect_logged, minted
from tests.e2e.tunnels import (
    API,
    LISTED,
    SECONDS,
    Answer,
    Far,
    basic,
    chat_body,
    connect_head,
    dialled,
    encrypted,
    http2,
    trusting,
    tunnel,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DAY = 86_400


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def nothing_passes(gateway: Gateway, far: Far) -> AsyncIterator[None]:
    """Whatever is refused here reached neither an upstream nor the host of a tunnel."""
    taken = far.taken
    yield
    assert gateway.upstream.seen == []
    assert far.taken == taken


async def connected(gateway: Gateway, authority: str, authorization: str | None, **more: Any) -> Answer:
    """Return what the proxy answers to a CONNECT."""
    async with dialled(gateway) as wire:
        await wire.send(connect_head(authority, authorization, **more))
        return await wire.answer("CONNECT")


async def failure(gateway: Gateway, address: str) -> dict[str, Any]:
    """Return the record of TLS that failed; the client is told no id of it."""

    def found() -> Any:
        return [
            one
            for one in gateway.documents()
            if one["client"]["address"] == address and one["error"]["code"] == Code.CONNECT_TLS
        ]

    documents = await until(found, f"a record of what {address} did")
    assert len(documents) == 1
    return dict(documents[0])


# --- identity --------------------------------------------------------------------------------------------------------


def stranger(gateway: Gateway, *, issuer: str | None = None, audience: str = files.AUDIENCE) -> str:
    """Return a good token of another tenant: made by another key, in the name of its issuer or of ours."""
    another = keys.SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return keys.mint(
        another, issuer=issuer or "http://127.0.0.1:1", audience=audience, user="alice",
        groups=users.DEMO_USERS["alice"], now=time.time(),
    )  # fmt: skip


Present = Callable[[Gateway], str | None]

REFUSED_IDENTITIES: dict[str, tuple[Present, Code]] = {
    "nothing": (lambda _: None, Code.IDENTITY_MISSING),
    "another scheme": (lambda gateway: f"Negotiate {gateway.token()}", Code.IDENTITY_MALFORMED),
    "no base64": (lambda _: "Basic ???", Code.IDENTITY_MALFORMED),
    "no password": (lambda gateway: "Basic " + basic(gateway.token())[6:10], Code.IDENTITY_MALFORMED),
    "a password that is no token": (lambda _: basic("hunter2"), Code.IDENTITY_MALFORMED),
    "a token of GitHub": (lambda _: basic("gho_" + "a" * 36), Code.IDENTITY_MALFORMED),
    "expired": (lambda gateway: basic(gateway.token(exp=int(time.time()) - DAY)), Code.IDENTITY_EXPIRED),
    "for another audience": (lambda gateway: basic(gateway.token(aud="elsewhere")), Code.IDENTITY_AUDIENCE),
    "of another issuer": (lambda gateway: basic(stranger(gateway)), Code.IDENTITY_ISSUER),
    "of another key": (
        lambda gateway: basic(stranger(gateway, issuer=gateway.ports.issuer_url)),
        Code.IDENTITY_KEY_UNKNOWN,
    ),
    "of a gateway with another key": (
        lambda gateway: basic(minted(gateway, secrets.token_bytes(KEY_BYTES))),
        Code.IDENTITY_SIGNATURE,
    ),
}


@pytest.mark.parametrize("name", REFUSED_IDENTITIES)
async def test_a_connect_without_a_good_identity_gets_407_says_how_and_is_recorded(gateway: Gateway, name: str) -> None:
    present, code = REFUSED_IDENTITIES[name]
    presented = present(gateway)
    async with dialled(gateway) as wire:
        await wire.send(connect_head(f"{API}:443", presented))
        answer = await wire.answer("CONNECT")
        # What follows would be the tunnel's: the connection ends, in order.
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
        address = wire.address
    assert (answer.status, answer.code) == (407, code)
    assert answer.headers["proxy-authenticate"] == 'Basic realm="copilot-extproc"'
    if name == "nothing":
        assert "extproc run" in json.loads(answer.body)["error"]["message"]
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("denied", code)
    assert (document["principal"], document["client"]["address"]) == (None, address)
    assert (document["request"]["method"], document["request"]["host"]) == ("CONNECT", API)
    assert document["response"]["status"] == 407
    if presented is not None:
        assert presented.partition(" ")[2] not in json.dumps(document)
    # With a good identity the next one is taken.
    async with encrypted(gateway):
        pass


async def test_two_identities_at_once_are_none(gateway: Gateway) -> None:
    more = [("proxy-authorization", basic(gateway.token("bob")))]
    answer = await connected(gateway, f"{API}:443", basic(gateway.token()), headers=more)
    assert (answer.status, answer.code) == (407, Code.IDENTITY_MALFORMED)


def strangers(gateway: Gateway) -> dict[str, str]:
    """Return tokens that open every door, elsewhere."""
    return {
        "other issuer": stranger(gateway),
        "our issuer's name, another key": stranger(gateway, issuer=gateway.ports.issuer_url),
        "our key, another issuer's name": gateway.token(iss="http://127.0.0.1:1"),
        "our issuer, another audience": gateway.token(aud="another-gateway"),
        "another gateway's own": minted(gateway, secrets.token_bytes(KEY_BYTES)),
    }


async def _url_mode(gateway: Gateway, path: str, name: str, value: str) -> int:
    method = "POST" if path == "/v1/messages" else "GET"
    headers = {name: value, "content-type": "application/json"}
    async with gateway.session.request(method, f"{gateway.url}{path}", headers=headers, data=chat_body()) as response:
        return int(response.status)


DOORS: dict[str, Callable[[Gateway, str], Awaitable[int]]] = {
    "authorization": lambda gateway, token: _url_mode(gateway, "/models", "authorization", f"Bearer {token}"),
    "github's prefix": lambda gateway, token: _url_mode(gateway, "/models", "authorization", f"token gho_{token}"),
    "basic": lambda gateway, token: _url_mode(gateway, "/models", "authorization", basic(token)),
    "x-gateway-authorization": lambda gateway, token: _url_mode(
        gateway, "/models", "x-gateway-authorization", f"Bearer {token}"
    ),
    "x-api-key": lambda gateway, token: _url_mode(gateway, "/v1/messages", "x-api-key", token),
    "token endpoint": lambda gateway, token: _url_mode(
        gateway, "/copilot_internal/v2/token", "authorization", f"token {token}"
    ),
}


@pytest.mark.parametrize("door", DOORS)
async def test_a_token_of_another_tenant_opens_no_door_in_url_mode(gateway: Gateway, door: str) -> None:
    for name, token in strangers(gateway).items():
        assert await DOORS[door](gateway, token) == 401, name


async def test_a_token_of_another_tenant_opens_no_tunnel(gateway: Gateway) -> None:
    for name, token in strangers(gateway).items():
        for authorization in (basic(token), f"Bearer gho_{token}"):
            for host in (API, LISTED):
                answer = await connected(gateway, f"{host}:443", authorization)
                assert answer.status == 407, name


# --- where to --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authority",
    [
        "140.82.121.6:443", "127.0.0.1:443", "127.1:443", "2130706433:443", "0x7f000001:443", "0x7f.1:443",
        "[::1]:443", "[::ffff:127.0.0.1]:443",
        f"{API}:80", f"{API}:8443", f"{API}:0443", f"{LISTED}:22", f"{API}.:443", "-api.githubcopilot.com:443",
    ],
)  # fmt: skip
async def test_a_connect_to_an_address_or_another_port_is_refused_and_recorded(
    gateway: Gateway, authority: str
) -> None:
    answer = await connected(gateway, authority, basic(gateway.token()))
    assert (answer.status, answer.code) == (403, Code.CONNECT_REFUSED)
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("denied", Code.CONNECT_REFUSED)
    assert document["request"]["path"] == authority


@pytest.mark.parametrize(
    "host", ["example.com", "localhost", f"evil.{LISTED}", f"{API}.evil.example", "evil-api.githubcopilot.com"]
)
async def test_a_connect_to_a_host_that_policy_does_not_list_is_refused_and_recorded(
    gateway: Gateway, host: str
) -> None:
    answer = await connected(gateway, f"{host}:443", basic(gateway.token()))
    assert (answer.status, answer.code) == (403, Code.POLICY_DENIED)
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["principal"]["name"]) == ("denied", "alice")
    assert (document["request"]["host"], document["request"]["endpoint"]) == (host, "tunnel")
    assert document["decision"]["rule"] == "default"


async def test_a_listed_host_is_open_to_those_alone_whom_policy_names(gateway: Gateway) -> None:
    answer = await connected(gateway, f"{LISTED}:443", basic(gateway.token("mallory")))
    assert (answer.status, answer.code) == (403, Code.POLICY_DENIED)
    assert (await gateway.document(answer.id))["principal"]["name"] == "mallory"


@pytest.mark.parametrize("name", ["x-gateway-upstream", "X-Gateway-Upstream"])
@pytest.mark.parametrize("cluster", ["tunnel", "intercepted", "ext_proc", "admin", "api.githubcopilot.com"])
async def test_a_client_cannot_say_where_its_tunnel_leads(gateway: Gateway, name: str, cluster: str) -> None:
    more = [(name, cluster), ("x-gateway-decision-id", "f" * 32), ("x-gateway-door", "none")]
    for host in ("example.com", "127.0.0.1"):
        answer = await connected(gateway, f"{host}:443", basic(gateway.token()), headers=more)
        assert answer.status == 403
        assert answer.id != "f" * 32
    async with tunnel(gateway, headers=more) as wire:
        # What is read stays read.
        await wire.writer.start_tls(trusting(gateway), server_hostname=API)
        assert (await wire.ask("/nothing-known")).code == Code.ENDPOINT_UNKNOWN


# --- no CONNECT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", f"http://{API}/models"),
        ("POST", f"http://{API}/chat/completions"),
        ("GET", "/models"),
        ("OPTIONS", f"http://{API}/"),
    ],
)
async def test_anything_but_connect_at_the_proxy_gets_405_and_is_recorded(
    gateway: Gateway, method: str, target: str
) -> None:
    async with dialled(gateway) as wire:
        body = chat_body() if method == "POST" else b""
        headers = [("proxy-authorization", basic(gateway.token()))]
        answer = await wire.ask(target, headers, body, method=method)
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, Code.CONNECT_REFUSED, "CONNECT")
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("denied", Code.CONNECT_REFUSED)
    assert document["request"]["method"] == method


async def refused_by_envoy(gateway: Gateway, sent: bytes, details: str) -> bytes:
    """Send what Envoy takes for no request; return what came back. Nothing but Envoy's log can tell of it."""
    before = len([line for line in gateway.access_log() if line["details"] == details])
    async with dialled(gateway) as wire:
        await wire.send(sent)
        received = await wire.rest()
    await until(
        lambda: len([line for line in gateway.access_log() if line["details"] == details]) > before, "a log line"
    )
    return received


async def test_an_upgrade_at_the_proxy_is_refused(gateway: Gateway) -> None:
    upgrade = [("connection", "upgrade"), ("upgrade", "websocket")]
    answer = await connected(gateway, f"{API}:443", basic(gateway.token()), headers=upgrade)
    assert (answer.status, answer.code) == (403, Code.REQUEST_REFUSED)


@pytest.mark.parametrize(
    ("more", "details"),
    [
        ([("content-length", "5")], "http1.body_disallowed"),
        ([("transfer-encoding", "chunked")], "http1.invalid_transfer_encoding"),
        ([("content-length", "5"), ("transfer-encoding", "chunked")], "http1.body_disallowed"),
    ],
)
@pytest.mark.parametrize("host", [API, LISTED])
async def test_a_connect_with_a_body_opens_nothing(
    gateway: Gateway, host: str, more: list[tuple[str, str]], details: str
) -> None:
    head = connect_head(f"{host}:443", basic(gateway.token()), more)
    smuggled = f"GET /models HTTP/1.1\r\nhost: {API}\r\n\r\n".encode()
    received = await refused_by_envoy(gateway, head + b"0\r\n\r\n" + smuggled, details)
    assert b" 200 " not in received


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        (b"garbage\r\n\r\n", "codec_error"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "codec_error"),
        (b"CONNECT / HTTP/1.1\r\n\r\n", "invalid_url"),
        (f"CONNECT {API} HTTP/1.1\r\n\r\n".encode(), "invalid_url"),
        (f"CONNECT me@{API}:443 HTTP/1.1\r\n\r\n".encode(), "invalid_url"),
        (f"GET https://{API}/models HTTP/1.1\r\nhost: x\r\n\r\n".encode(), "https_url_on_plaintext_connection"),
    ],
)
async def test_what_is_no_request_ends_the_connection(gateway: Gateway, sent: bytes, details: str) -> None:
    details = f"http1.{details}"
    assert b" 200 " not in await refused_by_envoy(gateway, sent, details)


# --- inside the tunnel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
@pytest.mark.parametrize(
    ("host", "server_name", "authority"),
    [
        (API, API, "api.github.com"),
        (API, "api.github.com", API),
        (API, "api.github.com", "api.github.com"),
        ("api.github.com", API, API),
        (API, API, "evil.example"),
        (API, API, f"{API}."),
    ],
)
async def test_a_host_that_is_not_the_one_of_tls_and_tunnel_gets_421_and_is_recorded(
    gateway: Gateway, host: str, server_name: str, authority: str, protocol: str
) -> None:
    if protocol == "h2":
        async with http2(gateway, host=host, server_name=server_name) as client:
            answer = await client.answer(await client.ask("/models", host=authority))
    else:
        async with encrypted(gateway, host, server_name=server_name) as wire:
            answer = await wire.ask("/models", host=authority)
    assert (answer.status, answer.code) == (421, Code.REQUEST_MISDIRECTED)
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["error"]["code"]) == ("denied", Code.REQUEST_MISDIRECTED)
    assert document["request"]["host"] == authority
    logged = await connect_logged(gateway, document["client"]["tunnel"])
    assert logged["authority"] == f"{host}:443"


@pytest.mark.parametrize("lines", [(API, API), (API, "api.github.com"), ("api.github.com", API)])
async def test_two_hosts_in_one_request_are_none(gateway: Gateway, lines: tuple[str, str]) -> None:
    head = "".join(f"host: {line}\r\n" for line in lines)
    async with encrypted(gateway) as wire:
        await wire.send(f"GET /models HTTP/1.1\r\n{head}\r\n".encode())
        answer = await wire.answer()
    assert (answer.status, answer.code) == (421, Code.REQUEST_MISDIRECTED)


async def test_plain_http_inside_a_tunnel_gets_400_and_is_recorded(gateway: Gateway) -> None:
    async with tunnel(gateway) as wire:
        answer = await wire.ask("/chat/completions", [("authorization", f"Bearer {gateway.token()}")], chat_body())
        address = wire.address
        assert await wire.rest() == b""
    assert (answer.status, answer.code) == (400, Code.REQUEST_MISDIRECTED)
    document = await gateway.document(answer.id)
    assert (document["outcome"], document["client"]["address"]) == ("denied", address)


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\x00\x01" + b"garbage " * 99, b"SSH-2.0-x\r\n"]
)
async def test_garbage_inside_a_tunnel_ends_it_and_is_recorded_with_who_sent_it(
    gateway: Gateway, garbage: bytes
) -> None:
    async with tunnel(gateway) as wire:
        address = wire.address
        await wire.send(garbage)
        assert await wire.rest() == b""
    document = await failure(gateway, address)
    assert (document["outcome"], document["principal"]["name"]) == ("failed", "alice")
    assert document["request"]["host"] == API


async def test_a_second_connect_is_for_the_tunnel_that_the_first_one_opened(gateway: Gateway) -> None:
    authorization = basic(gateway.token())
    for host in ("evil.example", LISTED, API):
        async with dialled(gateway) as wire:
            await wire.send(connect_head(f"{API}:443", authorization) + connect_head(f"{host}:443", authorization))
            first, second = await wire.answer("CONNECT"), await wire.answer()
            assert (first.status, second.status, second.code) == (200, 400, Code.REQUEST_PATH)
            assert await wire.rest() == b""
        assert (await gateway.document(second.id))["outcome"] == "denied"
    # Inside TLS it is no better.
    async with encrypted(gateway) as wire:
        await wire.send(connect_head(f"{LISTED}:443", authorization))
        answer = await wire.answer()
    assert (answer.status, answer.code) == (400, Code.REQUEST_PATH)


def distrust_aloud(port: int, head: bytes) -> str:
    """Do what asyncio leaves out, and most other clients do: tell the server why; return the client's address."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as raw:
        address = "{}:{}".format(*raw.getsockname())
        raw.sendall(head)
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")
        with (
            pytest.raises(ssl.SSLCertVerificationError),
            ssl.create_default_context().wrap_socket(raw, server_hostname=API),
        ):
            pass
    return address


@pytest.mark.parametrize("says_why", [True, False])
async def test_a_client_that_does_not_trust_our_ca_is_recorded(gateway: Gateway, says_why: bool) -> None:  # noqa: FBT001 - of the table
    if says_why:
        head = connect_head(f"{API}:443", basic(gateway.token()))
        address = await asyncio.to_thread(distrust_aloud, gateway.ports.proxy, head)
    else:
        async with tunnel(gateway) as wire:
            address = wire.address
            with pytest.raises(ssl.SSLCertVerificationError):
                await wire.writer.start_tls(ssl.create_default_context(), server_hostname=API)
    document = await failure(gateway, address)
    assert (document["outcome"], document["principal"]["name"]) == ("failed", "alice")
    assert (document["request"]["method"], document["request"]["host"]) == ("CONNECT", API)
    message = document["error"]["message"]
    assert "does the client trust the gateway's CA?" in message
    assert ("the client hung up" in message) is not says_why


async def test_a_tunnel_that_is_opened_and_not_used_is_no_failure(gateway: Gateway) -> None:
    before = len(gateway.documents())
    async with tunnel(gateway):
        pass
    async with tunnel(gateway) as wire:
        await wire.send(b"\x16\x03\x01")
    async with encrypted(gateway):
        pass
    async with encrypted(gateway) as wire:
        wire.writer.transport.abort()
    async with encrypted(gateway) as wire:
        answer = await wire.ask("/nothing-known")
    await gateway.document(answer.id)
    assert len(gateway.documents()) == before + 1


async def test_old_tls_is_refused_and_recorded(gateway: Gateway) -> None:
    old = trusting(gateway)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with tunnel(gateway) as wire:
        address = wire.address
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await wire.writer.start_tls(old, server_hostname=API)
    document = await failure(gateway, address)
    assert (document["principal"]["name"], "UNSUPPORTED_PROTOCOL" in document["error"]["message"]) == ("alice", True)


def impatient(config: dict[str, Any]) -> None:
    (inside,) = (one for one in config["static_resources"]["listeners"] if one["name"] == "intercepted")
    inside["listener_filters_timeout"] = "0.5s"


async def test_an_expired_leaf_is_recorded_and_silence_ends_a_tunnel(own_gateway: Gateway) -> None:
    await own_gateway.prepare(impatient)
    shutil.rmtree(own_gateway.state / "ca")
    operations.init(own_gateway.state / "ca", operations.Wanted(), time.time() - 91 * DAY)
    await own_gateway.start()
    async with tunnel(own_gateway) as wire:
        address = wire.address
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await wire.writer.start_tls(trusting(own_gateway), server_hostname=API)
    document = await failure(own_gateway, address)
    assert (document["outcome"], document["principal"]["name"]) == ("failed", "alice")
    # Renewed, it is taken up without a restart.
    operations.renew(own_gateway.state / "ca", operations.Wanted(), time.time())
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            async with encrypted(own_gateway) as wire:
                assert (await wire.ask("/models")).status == 200
            break
        except ssl.SSLCertVerificationError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    # Nobody speaks: the tunnel goes, and the proxy with its other tunnels stays.
    async with tunnel(own_gateway) as silent, encrypted(own_gateway) as wire:
        assert await silent.rest() == b""
        assert (await wire.ask("/models")).status == 200
