"""Nobody's request inside a tunnel ever carries somebody else's identity, however connections come and go."""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections import Counter
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.e2e.gateway import Gateway, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAYS = ("proxy", "proxy_https")
HOSTS = ("api.githubcopilot.com", "api.business.githubcopilot.com", "api.github.com")
ROUNDS, AT_ONCE = 8, 40


def basic(user: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


async def ask(
    gateway: Gateway, user: str, token: str, host: str, way: str = "proxy"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a CONNECT, and do not wait for what comes of it."""
    tls: dict[str, Any] = {"ssl": trusting(gateway), "server_hostname": "localhost"} if way == "proxy_https" else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", getattr(gateway.ports, way), **tls)
    writer.write(
        f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {basic(user, token)}\r\n\r\n".encode()
    )
    await writer.drain()
    return reader, writer


def trusting(gateway: Gateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(gateway.state / "ca" / "ca.pem"))


async def use(gateway: Gateway, user: str, token: str, fate: float, host: str, way: str) -> str | None:
    """Open a tunnel and give it up at once, once it is open, or after a request; return the answer's status line."""
    reader, writer = await ask(gateway, user, token, host, way)
    try:
        if fate < 0.3:
            return None
        opened = await reader.readuntil(b"\r\n\r\n")
        assert opened.startswith(b"HTTP/1.1 200 ")
        if fate < 0.5:
            return None
        await writer.start_tls(trusting(gateway), server_hostname=host)
        # What the client says of itself goes to the record beside who it was verified to be.
        writer.write(f"GET /models HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {user}/{way}\r\n\r\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.transport.abort()


async def seen_by(gateway: Gateway, way: str, wanted: int) -> list[tuple[str, str]]:
    """Return who a client said that it was, and who it was verified to be, for each recorded request of a way."""

    def ours() -> list[tuple[str, str]]:
        said = [(document["client"]["user_agent"] or "", document["principal"]) for document in gateway.documents()]
        pairs = [(agent.partition("/"), "" if who is None else who["name"]) for agent, who in said]
        return [(user, name) for (user, _, by), name in pairs if by == way]

    found: list[tuple[str, str]] = await until(
        lambda: ours() if len(ours()) >= wanted else None, "records of all requests"
    )
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_requests_in_tunnels_belong_to_who_opened_them(gateway: Gateway, way: str) -> None:
    chance = random.Random(6)  # noqa: S311 - a schedule, not a secret
    tokens = {user: gateway.token(user) for user in ("alice", "bob", "carol")}
    statuses: Counter[str | None] = Counter()
    for _ in range(ROUNDS):
        users = [chance.choice(list(tokens)) for _ in range(AT_ONCE)]
        tunnels = (use(gateway, user, tokens[user], chance.random(), chance.choice(HOSTS), way) for user in users)
        statuses.update(await asyncio.gather(*tunnels))
    del statuses[None]
    # A mismatch of hosts is how a connection that was made for somebody else shows itself to the client. Of /models at
    # api.github.com nothing is known here; carol may use no models.
    assert set(statuses) <= {"HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden", "HTTP/1.1 422 Unprocessable Content",
                             "HTTP/1.1 422 Unprocessable Entity", "HTTP/1.1 404 Not Found"}, statuses  # fmt: skip
    wanted = statuses.total()
    assert wanted > ROUNDS * AT_ONCE / 4
    assert [pair for pair in await seen_by(gateway, way, wanted) if pair[0] != pair[1]] == []


class Streams:
    """One HTTP/2 connection to the proxy over TLS, with tunnels of several people in it (RFC 9113 section 8.5)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self.statuses: dict[int, str] = {}
        self._data: dict[int, bytearray] = {}

    def connect(self, user: str, token: str, host: str) -> int:
        stream = self._http.get_next_available_stream_id()
        self._data[stream] = bytearray()
        pseudo = [(":method", "CONNECT"), (":authority", f"{host}:443")]
        self._http.send_headers(stream, [*pseudo, ("proxy-authorization", basic(user, token))])
        return stream

    def send(self, stream: int, data: bytes) -> None:
        self._http.send_data(stream, data)

    def give_up(self, stream: int) -> None:
        self._http.reset_stream(stream)

    def taken(self, stream: int) -> bytes:
        data = bytes(self._data[stream])
        self._data[stream].clear()
        return data

    async def turn(self) -> None:
        """Send what there is, and read what comes."""
        self._writer.write(self._http.data_to_send())
        async with asyncio.timeout(30):
            data = await self._reader.read(65536)
        assert data, "the connection ended"
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self.statuses[event.stream_id] = headers[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self._data[event.stream_id] += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self._writer.write(self._http.data_to_send())


async def inside(streams: Streams, stream: int, tls: ssl.SSLContext, user: str, host: str) -> bytes:
    """Agree on TLS in a tunnel and ask; return the first line of the answer."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = tls.wrap_bio(incoming, outgoing, server_hostname=host)
    answer = b""
    is_agreed = False
    while b"\r\n" not in answer:
        try:
            if not is_agreed:
                secure.do_handshake()
                is_agreed = True
                secure.write(f"GET /models HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {user}/http2\r\n\r\n".encode())
                streams.send(stream, outgoing.read())
            answer += secure.read(65536)
        except ssl.SSLWantReadError:
            if outgoing.pending:
                streams.send(stream, outgoing.read())
            await streams.turn()
            incoming.write(streams.taken(stream))
    return answer.partition(b"\r\n")[0]


async def test_tunnels_of_several_people_in_one_connection_do_not_mix(gateway: Gateway) -> None:
    chance = random.Random(8)  # noqa: S311 - a schedule, not a secret
    tokens = {user: gateway.token(user) for user in ("alice", "bob", "carol")}
    tls, outer = trusting(gateway), trusting(gateway)
    outer.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.ports.proxy_https, ssl=outer, server_hostname="localhost"
    )
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    streams, wanted = Streams(reader, writer), 0
    for _ in range(ROUNDS):
        users = [chance.choice(list(tokens)) for _ in range(8)]
        opened = [(streams.connect(user, tokens[user], HOSTS[0]), user) for user in users]
        # Some are given up before they are open, others once they are: what was made for them must serve nobody else.
        early = [one for one in opened if chance.random() < 0.25]
        for stream, _ in early:
            streams.give_up(stream)
        kept = [one for one in opened if one not in early]
        while not {stream for stream, _ in kept} <= streams.statuses.keys():
            await streams.turn()
        assert {streams.statuses[stream] for stream, _ in kept} <= {"200"}
        for stream, user in kept:
            if chance.random() < 0.5:
                streams.give_up(stream)
                continue
            line = await inside(streams, stream, tls, user, HOSTS[0])
            assert line.split()[1] in {b"200", b"403", b"422"}, line
            wanted += 1
    writer.transport.abort()
    assert wanted > ROUNDS
    assert [pair for pair in await seen_by(gateway, "http2", wanted) if pair[0] != pair[1]] == []


async def test_a_tunnel_is_left_between_two_requests_so_that_its_token_is_renewed(own_gateway: Gateway) -> None:
    def impatient(config: dict[str, Any]) -> None:
        for listener in config["static_resources"]["listeners"]:
            for chain in listener["filter_chains"]:
                options = chain["filters"][0]["typed_config"]["common_http_protocol_options"]
                outer = listener["name"] in {"proxy", "proxy-https", "operations"}
                assert outer or options["max_connection_duration"] == "240s"
                options["max_connection_duration"] = "0.5s"

    await own_gateway.prepare(impatient)
    await own_gateway.start()
    reader, writer = await ask(own_gateway, "alice", own_gateway.token(), HOSTS[0])
    await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(trusting(own_gateway), server_hostname=HOSTS[0])
    answers = 0
    async with asyncio.timeout(20):
        while True:
            writer.write(f"GET /models HTTP/1.1\r\nHost: {HOSTS[0]}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("http/1.1 200 ")
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
            answers += 1
            if "\r\nconnection: close\r\n" in head:
                break
    assert answers > 1
    assert await reader.read() == b""
    writer.close()
