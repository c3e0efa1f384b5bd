from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extproc.certificates import operations
from extproc.errors import ExtprocError
from extproc.relay import relay as relay_module
from extproc.relay.relay import Gateway, Relay
from extproc.secret import Secret
from tests.proxying import FakeProxy, listening, proxy, refusal

MEBI = 1024 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and at its end say goodbye: what a half-closed tunnel must still carry."""
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.write(b"bye")
    await writer.drain()
    writer.write_eof()


def always(token: str) -> Callable[[], Awaitable[Secret]]:
    async def current() -> Secret:
        return Secret(token)

    return current


class Rig:
    """A relay before a fake gateway before an echo, and a client of it."""

    def __init__(self, relay: Relay, fake: FakeProxy, refused: list[str]) -> None:
        self.relay, self.fake, self.refused = relay, fake, refused
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self) -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", int(self.relay.url.rpartition(":")[2]))
        self.clients.append(streams[1])
        return streams

    async def ask(self, authority: str = "api.github.com:443", password: str | None = None) -> tuple[str, Streams]:
        reader, writer = await self.connect()
        given = self.relay.password.reveal() if password is None else password
        basic = base64.b64encode(f"extproc:{given}".encode()).decode()
        writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {basic}\r\n\r\n".encode())
        return (await reader.readuntil(b"\r\n\r\n")).decode(), (reader, writer)

    async def refusal(self, authority: str = "api.github.com:443", password: str | None = None) -> tuple[str, bytes]:
        head, (reader, _) = await self.ask(authority, password)
        return head, await reader.read()


@asynccontextmanager
async def running(
    fake: FakeProxy, token: Callable[[], Awaitable[Secret]], tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[Rig]:
    refused: list[str] = []
    server, client = tls or (None, None)
    async with listening(echo) as target, proxy(fake, server):
        fake.target = fake.target or ("127.0.0.1", target)
        async with Relay(Gateway("127.0.0.1", fake.port, client), token, refused.append) as relay:
            rig = Rig(relay, fake, refused)
            try:
                yield rig
            finally:
                for writer in rig.clients:
                    writer.transport.abort()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(FakeProxy(None, {"good"}), always("good")) as made:
        yield made


async def test_a_tunnel_carries_bytes_both_ways_and_survives_a_half_close(rig: Rig) -> None:
    head, (reader, writer) = await rig.ask()
    assert head.startswith("HTTP/1.1 200 ")
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b"bye"
    assert rig.refused == []


async def test_the_gateway_is_asked_for_the_clients_target_with_the_token_and_nothing_of_the_password(rig: Rig) -> None:
    await rig.ask("[::1]:8443")
    (head,) = rig.fake.heads
    assert head == "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\nProxy-Authorization: Bearer good\r\n\r\n"


async def test_each_tunnel_asks_for_a_token_of_its_own() -> None:
    tokens = iter(["first", "second"])

    async def current() -> Secret:
        return Secret(next(tokens))

    async with running(FakeProxy(None, {"first", "second"}), current) as rig:
        await rig.ask()
        await rig.ask()
        assert ["first" in rig.fake.heads[0], "second" in rig.fake.heads[1]] == [True, True]


async def test_what_a_client_sends_before_the_answer_is_not_lost(rig: Rig) -> None:
    reader, writer = await rig.connect()
    basic = base64.b64encode(f"x:{rig.relay.password.reveal()}".encode()).decode()
    writer.write(f"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\nearly".encode())
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(5) == b"early"


@pytest.mark.parametrize("password", ["", "wrong", "good"])
async def test_a_wrong_password_is_407_and_the_gateway_hears_nothing(rig: Rig, password: str) -> None:
    head, body = await rig.refusal(password=password)
    assert head.startswith("HTTP/1.1 407 ")
    assert "proxy-authenticate: Basic" in head
    assert "password" in json.loads(body)["error"]["message"]
    assert rig.fake.heads == []


async def test_passwords_differ_from_run_to_run() -> None:
    gateway = Gateway("127.0.0.1", 1)
    made = {Relay(gateway, always("t"), print).password.reveal() for _ in range(10)}
    assert len(made) == 10
    assert min(map(len, made)) >= 32


async def test_plain_http_is_405_with_the_reason(rig: Rig) -> None:
    reader, writer = await rig.connect()
    writer.write(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert b" 405 " in await reader.readline()
    assert b"HTTPS only" in await reader.read()


@pytest.mark.parametrize("raw", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"\r\n\r\n", b"CONNECT\r\n\r\n", b"\xff\xfe\r\n\r\n"])
async def test_garbage_is_400_and_the_relay_goes_on(rig: Rig, raw: bytes) -> None:
    reader, writer = await rig.connect()
    writer.write(raw)
    assert b" 400 " in await reader.readline()
    assert (await rig.ask())[0].startswith("HTTP/1.1 200 ")


async def test_an_endless_head_is_431(rig: Rig) -> None:
    reader, writer = await rig.connect()
    writer.write(b"CONNECT a:443 HTTP/1.1\r\nx: " + b"a" * 40_000)
    assert b" 431 " in await reader.readline()


async def test_a_head_that_never_ends_is_408(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_HEAD_SECONDS", 0.01)
    reader, writer = await rig.connect()
    writer.write(b"CONNECT a:443 HTTP/1.1\r\n")
    assert b" 408 " in await reader.readline()


async def test_a_client_that_says_nothing_is_no_error(rig: Rig) -> None:
    _, writer = await rig.connect()
    writer.close()
    assert (await rig.ask())[0].startswith("HTTP/1.1 200 ")


async def test_the_gateways_refusal_of_a_host_reaches_the_client_with_its_body(rig: Rig) -> None:
    rig.fake.refused["evil.example"] = refusal(403, "not \x1blisted", "x-gateway-decision-id: d1\r\nset-cookie: a\r\n")
    head, body = await rig.refusal("evil.example:443")
    assert head.startswith("HTTP/1.1 403 ")
    assert "x-gateway-decision-id: d1" in head
    assert "cookie" not in head
    assert b"listed" in body
    # Nothing in it that a terminal would obey.
    assert len(rig.refused) == 1
    assert rig.refused[0].startswith("evil.example:443: 403 ")
    assert rig.refused[0].isprintable()


async def test_a_token_that_the_gateway_does_not_take_is_its_407() -> None:
    async with running(FakeProxy(None, {"good"}), always("old")) as rig:
        head, body = await rig.refusal()
        assert head.startswith("HTTP/1.1 407 ")
        assert "proxy-authenticate: Basic realm=gateway" in head
        assert json.loads(body)["error"]["message"] == "sign in again"
        assert rig.refused == ["api.github.com:443: 407 sign in again"]
        assert "old" not in head + body.decode() + str(rig.refused)


async def test_without_a_token_the_client_hears_what_to_do() -> None:
    async def none() -> Secret:
        raise ExtprocError("not signed in: run `extproc login`")

    async with running(FakeProxy(None, {"good"}), none) as rig:
        head, body = await rig.refusal()
        assert head.startswith("HTTP/1.1 403 ")
        assert b"extproc login" in body
        assert rig.fake.heads == []


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000,
        b"",
        b"HTTP/1.1 20",
    ],
)
async def test_a_gateway_that_speaks_no_http_is_502(answer: bytes) -> None:
    async with running(FakeProxy(None, {"good"}, {"a": answer}), always("good")) as rig:
        head, _ = await rig.refusal("a:443")
        assert head.startswith("HTTP/1.1 502 ")


@pytest.mark.parametrize(
    ("more", "body", "kept"),
    [
        (b"content-length: 5\r\n", b"hello and more", b"hello"),
        (b"content-length: 9\r\n", b"short", b"short"),
        (b"content-length: " + b"9" * 5000 + b"\r\n", b"all", b"all"),
        (b"", b"until the end", b"until the end"),
        (b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", b""),
        (b"", b"x" * MEBI, b"x" * 65536),
    ],
)
async def test_a_refusals_body_is_bounded_and_its_length_right(more: bytes, body: bytes, kept: bytes) -> None:
    fake = FakeProxy(None, {"good"}, {"a": b"HTTP/1.1 403 No\r\n" + more + b"\r\n" + body})
    async with running(fake, always("good")) as rig:
        head, told = await rig.refusal("a:443")
        assert told == kept
        assert f"content-length: {len(kept)}" in head


async def test_a_gateway_that_is_not_there_is_502() -> None:
    async with listening(echo) as port:
        pass
    async with Relay(Gateway("127.0.0.1", port), always("good"), print) as relay:
        rig = Rig(relay, FakeProxy(None, set()), [])
        head, body = await rig.refusal()
        assert head.startswith("HTTP/1.1 502 ")
        assert b"cannot be reached" in body
        rig.clients[0].close()


async def test_a_gateway_that_does_not_answer_is_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_GATEWAY_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port, Relay(Gateway("127.0.0.1", port), always("good"), print) as relay:
        rig = Rig(relay, FakeProxy(None, set()), [])
        head, _ = await rig.refusal()
        assert head.startswith("HTTP/1.1 504 ")
        rig.clients[0].close()


async def test_a_gateway_that_dies_ends_its_tunnels_at_once_and_the_relay_goes_on(rig: Rig) -> None:
    _, (reader, writer) = await rig.ask()
    writer.write(b"x")
    await reader.readexactly(1)
    for tunnel in rig.fake.tunnels:
        # With nothing to linger for, the end is a reset.
        tunnel.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tunnel.transport.abort()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    assert (await rig.ask())[0].startswith("HTTP/1.1 200 ")


async def test_a_client_that_dies_ends_its_tunnel_at_the_gateway(rig: Rig) -> None:
    _, (reader, writer) = await rig.ask()
    writer.write(b"x")
    await reader.readexactly(1)
    writer.transport.abort()
    async with asyncio.timeout(5):
        await rig.fake.ended.wait()


async def test_200_tunnels_are_held_at_once(rig: Rig) -> None:
    opened = [streams for _, streams in await asyncio.gather(*(rig.ask(f"h{number}:443") for number in range(200)))]
    assert len(rig.fake.tunnels) == 200
    for number, (_, writer) in enumerate(opened):
        writer.write(b"%04d" % number)
    told = await asyncio.gather(*(reader.readexactly(4) for reader, _ in opened))
    assert told == [b"%04d" % number for number in range(200)]


async def test_more_tunnels_than_the_bound_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_MAX_TUNNELS", 1)
    await rig.ask()
    head, _ = await rig.refusal()
    assert head.startswith("HTTP/1.1 503 ")


async def test_who_does_not_know_the_password_takes_no_tunnels_place(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_MAX_TUNNELS", 1)
    idle = [await rig.connect() for _ in range(5)]
    assert (await rig.ask(password="wrong"))[0].startswith("HTTP/1.1 407 ")
    _, (reader, writer) = await rig.ask()
    writer.write_eof()
    assert await reader.read() == b"bye"
    # And a tunnel that has ended makes place for another one.
    assert (await rig.ask())[0].startswith("HTTP/1.1 200 ")
    assert all(not reader.at_eof() for reader, _ in idle)


async def test_of_too_many_that_have_not_asked_the_oldest_is_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_MAX_WAITING", 3)
    _, (reader, writer) = await rig.ask()
    idle = [await rig.connect() for _ in range(3)]
    # One that has asked does not wait any more, so none is closed for it.
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    assert not any(reader.at_eof() for reader, _ in idle)
    assert (await rig.ask())[0].startswith("HTTP/1.1 200 ")
    async with asyncio.timeout(5):
        assert await idle[0][0].read() == b""
    assert not any(reader.at_eof() for reader, _ in idle[1:])
    writer.write(b"y")
    assert await reader.readexactly(1) == b"y"


async def test_bytes_arrive_unchanged_and_a_reader_that_stops_stops_the_writer(rig: Rig) -> None:
    _, (reader, writer) = await rig.ask()
    sent = bytes(range(256)) * (MEBI // 256)
    pushed = 0
    # Nobody reads the echo, so at some point nothing more is taken: what is in between does not pile up in the relay.
    with pytest.raises(TimeoutError):
        for _ in range(256):
            writer.write(sent)
            async with asyncio.timeout(0.5):
                await writer.drain()
            pushed += 1
    assert pushed < 64
    got = await reader.readexactly(MEBI)
    assert got == sent


async def test_a_relay_that_ends_takes_its_tunnels_along() -> None:
    async with running(FakeProxy(None, {"good"}), always("good")) as rig:
        _, (reader, _) = await rig.ask()
        port = int(rig.relay.url.rpartition(":")[2])
        await rig.relay.__aexit__(None, None, None)
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_proxy_behind_tls_is_verified_and_tunnelled_through(tmp_path: Path) -> None:
    operations.ensure(tmp_path, (), time.time())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with running(FakeProxy(None, {"good"}), always("good"), (server, trusting)) as rig:
        _, (reader, writer) = await rig.ask()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() in {b"", b"bye"}
    async with running(FakeProxy(None, {"good"}), always("good"), (server, ssl.create_default_context())) as rig:
        head, _ = await rig.refusal()
        assert head.startswith("HTTP/1.1 502 ")
        assert rig.fake.heads == []
