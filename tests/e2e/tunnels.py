"""Clients of the forward proxy, down to the bytes: CONNECT, TLS, and HTTP/1.1 or HTTP/2 inside."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events

from tests.e2e.gateway import Gateway

API = "api.githubcopilot.com"
LISTED = "packages.example.com"
"""A host that the policy of these tests opens to developers, unread."""

SECONDS = 30
"""No answer takes longer."""

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["x-gateway-decision-id"]

    @property
    def code(self) -> str:
        """Return the gateway's code, which GitHub's own API has no `error` around."""
        body = json.loads(self.body)
        return str(body.get("error", body)["code"])


class Refused(Exception):
    """The proxy opened no tunnel."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body!r}")
        self.answer = answer


def basic(token: str, user: str = "me") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def trusting(gateway: Gateway, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(gateway.state / "ca" / "ca.pem"))
    context.set_alpn_protocols(protocols or ("http/1.1",))
    return context


def chat_body(*, stream: bool = False, text: str = "hi") -> bytes:
    return json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": text}], "stream": stream}).encode()


@dataclass
class Wire:
    """A connection to the proxy or, from CONNECT on, to what is behind it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def address(self) -> str:
        """Return the client's own end."""
        host, port = self.writer.get_extra_info("sockname")
        return f"{host}:{port}"

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Read one HTTP/1.1 response."""
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status = int(first.split(" ")[1])
            return Answer(status, headers, b"" if (method, status) == ("CONNECT", 200) else await self._body(headers))

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if "transfer-encoding" not in headers:
            return await self.reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readuntil(b"\r\n")
        return body

    async def ask(
        self, path: str, headers: Headers = (), body: bytes = b"", *, method: str = "", host: str = API
    ) -> Answer:
        """Ask as an HTTP/1.1 client does."""
        lines = [("host", host), *headers]
        if body:
            lines += [("content-type", "application/json"), ("content-length", str(len(body)))]
        method = method or ("POST" if body else "GET")
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.answer(method)

    async def rest(self) -> bytes:
        """Read until the other side hangs up, in order or not."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def dialled(gateway: Gateway, client: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Connect to the proxy's port, from the address `client`."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", gateway.ports.proxy, local_addr=(client, 0)))
    try:
        yield wire
    finally:
        wire.close()


def connect_head(authority: str, authorization: str | None, headers: Headers = ()) -> bytes:
    lines = [("host", authority), *headers]
    if authorization is not None:
        lines.append(("proxy-authorization", authorization))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"CONNECT {authority} HTTP/1.1\r\n{head}\r\n".encode()


@asynccontextmanager
async def tunnel(
    gateway: Gateway,
    host: str = API,
    authorization: str | None = "",
    *,
    headers: Headers = (),
    client: str = "127.0.0.1",
) -> AsyncIterator[Wire]:
    """Open a tunnel to port 443 of a host, as alice where not said otherwise; raises Refused."""
    authorization = basic(gateway.token()) if authorization == "" else authorization
    async with dialled(gateway, client) as wire:
        await wire.send(connect_head(f"{host}:443", authorization, headers))
        answer = await wire.answer("CONNECT")
        if answer.status != 200:
            raise Refused(answer)
        yield wire


@asynccontextmanager
async def encrypted(
    gateway: Gateway,
    host: str = API,
    authorization: str | None = "",
    *,
    server_name: str | None = None,
    tls: ssl.SSLContext | None = None,
    client: str = "127.0.0.1",
) -> AsyncIterator[Wire]:
    """Open a tunnel and TLS inside; `server_name` is the host where not said otherwise."""
    async with tunnel(gateway, host, authorization, client=client) as wire:
        async with asyncio.timeout(SECONDS):
            await wire.writer.start_tls(tls or trusting(gateway), server_hostname=server_name or host)
        yield wire


@dataclass
class H2:
    """HTTP/2 on a wire; answers are read one after the other, whatever their order on the wire."""

    wire: Wire
    _state: h2.connection.H2Connection = field(
        default_factory=lambda: h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    )
    _heads: dict[int, dict[str, str]] = field(default_factory=dict)
    _bodies: dict[int, bytes] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    async def start(self) -> None:
        self._state.initiate_connection()
        await self._flush()

    async def ask(self, path: str, headers: Headers = (), body: bytes = b"", *, host: str = API) -> int:
        """Send a request; return the number of its stream."""
        stream = self._state.get_next_available_stream_id()
        pseudo = [(":method", "POST" if body else "GET"), (":scheme", "https"), (":authority", host), (":path", path)]
        more = [("content-type", "application/json")] if body else []
        self._state.send_headers(stream, [*pseudo, *more, *headers], end_stream=not body)
        if body:
            self._state.send_data(stream, body, end_stream=True)
        await self._flush()
        return stream

    async def answer(self, stream: int) -> Answer:
        async with asyncio.timeout(SECONDS):
            while stream not in self._ended:
                data = await self.wire.reader.read(65536)
                assert data, "the connection ended"
                for event in self._state.receive_data(data):
                    self._take(event)
                await self._flush()
        headers = self._heads[stream]
        return Answer(int(headers[":status"]), headers, self._bodies.get(stream, b""))

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            case h2.events.DataReceived():
                self._bodies[event.stream_id] = self._bodies.get(event.stream_id, b"") + event.data
                self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self._ended.add(event.stream_id)
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                raise AssertionError(f"broken off: {event}")
            case _:
                pass

    async def _flush(self) -> None:
        await self.wire.send(self._state.data_to_send())


@asynccontextmanager
async def http2(gateway: Gateway, **more: Any) -> AsyncIterator[H2]:
    async with encrypted(gateway, tls=trusting(gateway, "h2"), **more) as wire:
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        one = H2(wire)
        await one.start()
        yield one


# --- What is at the other end of tunnels that are not read -----------------------------------------------------------

Serve = Callable[[Wire], Coroutine[Any, Any, None]]


async def echo(wire: Wire) -> None:
    while data := await wire.reader.read(65536):
        await wire.send(data)


@dataclass
class Far:
    """The one host that tunnels lead to in these tests, whatever name they have."""

    serve: Serve = echo
    port: int = 0
    taken: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Far]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.taken += 1
            try:
                await self.serve(Wire(reader, writer))
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


def closing_quickly(config: dict[str, Any]) -> None:
    """Change the Envoy configuration: it waits for 0.1 s and not for 1 s until a client hangs up that was refused."""
    for listener in config["static_resources"]["listeners"]:
        if listener["name"] in {"proxy", "intercepted"}:
            for chain in listener["filter_chains"]:
                # The listeners of URL mode share the settings of `intercepted`.
                (manager,) = chain["filters"]
                quick = {**manager["typed_config"], "delayed_close_timeout": "0.1s"}
                chain["filters"] = [{**manager, "typed_config": quick}]


def leading_to(port: int) -> Callable[[dict[str, Any]], None]:
    """Return a change of the Envoy configuration: tunnels lead to a port of this machine, not where names say."""

    def change(config: dict[str, Any]) -> None:
        closing_quickly(config)
        static = config["static_resources"]
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        kept = [one for one in static["clusters"] if one["name"] != "tunnel"]
        cluster = {"name": "tunnel", "connect_timeout": "5s", "type": "STATIC"}
        static["clusters"] = [
            *kept,
            {**cluster, "load_assignment": {"cluster_name": "tunnel", "endpoints": endpoints}},
        ]
        for proxy in (one for one in static["listeners"] if one["name"] in {"proxy", "proxy-https"}):
            manager = proxy["filter_chains"][0]["filters"][0]["typed_config"]
            kept = [one for one in manager["http_filters"] if "dynamic_forward_proxy" not in one["name"]]
            manager["http_filters"] = kept

    return change


def list_hosts(gateway: Gateway, *hosts: str) -> None:
    """Open tunnels to hosts for developers, in the policy of a gateway that has not started."""
    rule = f"""
  - id: packages
    when: {{ groups: [developers], endpoints: [tunnel], hosts: {json.dumps(hosts)} }}
    effect: allow
"""
    path = gateway.state / "policy.yaml"
    path.write_text(path.read_text() + rule)
