"""Accept CONNECT on loopback from one client, and open each tunnel at the gateway's proxy with a fresh token."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import secrets
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from extproc.errors import ExtprocError
from extproc.relay.head import MAX_HEAD_BYTES, Answer, Tunnel, read_request, read_status, refusal, write_request
from extproc.secret import Secret

_HEAD_SECONDS: Final = 5.0
"""How long a client may take to ask, and to show that it knows the password."""
_GATEWAY_SECONDS: Final = 30.0
"""How long the gateway may take to answer a CONNECT, connecting included."""
_MAX_TUNNELS: Final = 1000
_MAX_FILES: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
_MAX_WAITING: Final = 256 if _MAX_FILES == resource.RLIM_INFINITY else min(256, _MAX_FILES // 4)
"""Connections that have not asked yet: all users of this machine reach the port, and tunnels need open files too."""
_MAX_REFUSAL_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection Established\r\n\r\n"
_PASSED_ON: Final[tuple[str, ...]] = ("content-type", "proxy-authenticate", "x-gateway-decision-id")

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway's forward proxy; `tls` is None where it is spoken to in plain."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Relay:
    """A proxy on 127.0.0.1 that knows one random password, for one child process.

    `token` returns a token that is fresh enough for a new tunnel, or raises ExtprocError; `refused` is told of each
    CONNECT that came to nothing, as one line for people: most clients keep to themselves what a proxy answers.
    """

    def __init__(
        self, gateway: Gateway, token: Callable[[], Awaitable[Secret]], refused: Callable[[str], None]
    ) -> None:
        self.password = Secret(secrets.token_urlsafe(24))
        self._gateway = gateway
        self._token = token
        self._refused = refused
        self._connections: set[asyncio.Task[None]] = set()
        # In the order in which they came.
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        self._tunnels = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        # The limit is also what one direction of a tunnel holds back.
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        """Return the proxy's address, without the password."""
        if self._server is None:
            raise RuntimeError("the relay is not running")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._waiting[writer] = None
        if len(self._waiting) > _MAX_WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.abort()
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                asked = await _request(reader, self.password)
            finally:
                self._waiting.pop(writer, None)
            if isinstance(asked, Tunnel):
                asked = await self._tunnel(asked, (reader, writer))
            if asked is not None:
                writer.write(asked.encode())
                await writer.drain()
        except OSError:
            pass  # The client is gone, and there is nobody to tell.
        except asyncio.CancelledError:
            # The relay ends: what nobody has read by now is not waited for.
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _tunnel(self, tunnel: Tunnel, client: _Streams) -> Answer | None:
        """Splice the client and the gateway until both are done; return an answer where no tunnel came about."""
        # Only those who know the password: nobody else may keep the client of this relay out.
        if self._tunnels >= _MAX_TUNNELS:
            return self._refuse(tunnel, refusal(503, f"{_MAX_TUNNELS} tunnels are open already."))
        self._tunnels += 1
        try:
            return await self._spliced(tunnel, client)
        finally:
            self._tunnels -= 1

    async def _spliced(self, tunnel: Tunnel, client: _Streams) -> Answer | None:
        try:
            async with asyncio.timeout(_GATEWAY_SECONDS):
                opened = await self._open(tunnel)
        except TimeoutError:
            return self._refuse(tunnel, refusal(504, "The gateway's proxy did not answer in time."))
        except (OSError, EOFError):
            return self._refuse(tunnel, refusal(502, "The gateway's proxy cannot be reached."))
        except ExtprocError as error:
            return self._refuse(tunnel, refusal(403, f"No token for the gateway: {error}"))
        if isinstance(opened, Answer):
            return self._refuse(tunnel, opened)
        try:
            client[1].write(_ESTABLISHED)
            await _splice(client, opened)
        except asyncio.CancelledError:
            opened[1].transport.abort()
            raise
        finally:
            opened[1].close()
        return None

    async def _open(self, tunnel: Tunnel) -> _Streams | Answer:
        request = write_request(tunnel, await self._token())
        gateway = self._gateway
        reader, writer = await asyncio.open_connection(
            gateway.host, gateway.port, ssl=gateway.tls, limit=MAX_HEAD_BYTES
        )
        try:
            writer.write(request)
            await writer.drain()
            answer = await _answer(reader)
        except BaseException:
            writer.close()
            raise
        if answer is None:
            return reader, writer
        writer.close()
        return answer

    def _refuse(self, tunnel: Tunnel, answer: Answer) -> Answer:
        self._refused(f"{tunnel.authority}: {answer.status} {_message(answer.body)}")
        return answer


async def _request(reader: asyncio.StreamReader, password: Secret) -> Tunnel | Answer | None:
    """Read what the client asks for; None where it went away."""
    try:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        return refusal(431, f"The request's head is longer than {MAX_HEAD_BYTES} bytes.")
    except TimeoutError:
        return refusal(408, "The request did not arrive in time.")
    return read_request(head, password)


async def _answer(reader: asyncio.StreamReader) -> Answer | None:
    """Read the gateway's answer to a CONNECT; None where the tunnel is open."""
    try:
        found = read_status(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.LimitOverrunError:
        found = None
    if found is None or found[0] < 200:
        return refusal(502, "The gateway's proxy did not answer in HTTP/1.1.")
    status, headers = found
    if status < 300:
        return None
    passed_on = {name: headers[name][0] for name in _PASSED_ON if name in headers}
    return Answer(status, await _body(reader, headers), passed_on)


async def _body(reader: asyncio.StreamReader, headers: dict[str, list[str]]) -> bytes:
    """Read a refusal's body, of which no more than a bound is kept; one in chunks is not worth a parser."""
    if "transfer-encoding" in headers:
        return b""
    length = headers.get("content-length", [""])[0]
    wanted = min(int(length), _MAX_REFUSAL_BYTES) if re.fullmatch("[0-9]{1,18}", length) else _MAX_REFUSAL_BYTES
    try:
        return await reader.readexactly(wanted)
    except asyncio.IncompleteReadError as short:
        return short.partial


async def _splice(client: _Streams, gateway: _Streams) -> None:
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(client[0], gateway[1]))
            both.create_task(_copy(gateway[0], client[1]))
    except* OSError:
        pass  # One side broke off. Both are closed now, and the TLS within tells that from an orderly end.


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(_PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
    else:
        # TLS to the proxy knows no half-closed connection.
        sink.close()


def _message(body: bytes) -> str:
    """Return the sentence for people of a JSON error, else the first words; nothing that a terminal would obey."""
    text = body.decode(errors="replace")
    try:
        told = json.loads(text)["error"]["message"]
    except (ValueError, TypeError, LookupError, RecursionError):
        told = text
    return "".join(character for character in str(told)[:300] if character.isprintable())
