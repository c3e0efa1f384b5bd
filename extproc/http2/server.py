"""The HTTP/2 server on unix sockets and TCP: it carries the streams of a neighbouring Envoy to services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import cast

from extproc.carrier import Service
from extproc.errors import ConfigError
from extproc.http2.connection import Connection
from extproc.http2.limits import GREETING_SECONDS, Load

log = logging.getLogger("extproc.http2")

_HIGH_WATER_BYTES = 262_144
"""Output that a peer has not read, over which its receivers get nothing more."""

_CLOSE_SECONDS = 1.0
"""How long a peer may take to read the last that we wrote, and to close."""

_DISCARDED_BYTES = 1 << 20
"""What a peer may go on sending meanwhile."""


class Http2Server:
    """Serve gRPC calls; keys of `services` are paths, `/package.Service/Method`.

    At most `max_streams` calls run at once, on all connections together; more are refused before any work (RFC 9113
    section 8.7). A peer that does not begin to speak HTTP/2 within `greeting_seconds` is cut. `grpc-timeout` is not
    looked at: a peer that no longer waits resets its stream.
    """

    def __init__(
        self, services: Mapping[str, Service], *, max_streams: int, greeting_seconds: float = GREETING_SECONDS
    ) -> None:
        self._services = services
        self._load = Load(max_streams)
        self._greeting_seconds = greeting_seconds
        self._peers = _Peers()
        self._listeners: list[asyncio.Server] = []

    @property
    def ports(self) -> list[int]:
        """Return the TCP ports that are listened on: what a port 0 became."""
        sockets = [one for listener in self._listeners for one in listener.sockets]
        return [one.getsockname()[1] for one in sockets if isinstance(one.getsockname(), tuple)]

    async def start(self, addresses: list[str]) -> None:
        """Listen on each of "unix:PATH" or "HOST:PORT"; raises ConfigError."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            host, _, port = address.rpartition(":")
            try:
                if address.startswith("unix:"):
                    path = address.removeprefix("unix:")
                    listener = await loop.create_unix_server(self._peer, path, backlog=1024)
                else:
                    host = host.removeprefix("[").removesuffix("]")
                    listener = await loop.create_server(self._peer, host, _port(port), backlog=1024)
            except (OSError, ValueError, OverflowError) as failure:
                await self.stop()
                raise ConfigError(f"listen: cannot listen on {address!r}") from failure
            self._listeners.append(listener)

    def goaway(self) -> None:
        """Ask every peer for a new connection; running calls go on, and each connection ends with its last."""
        self._peers.are_leaving = True
        for peer in self._peers:
            peer.leave()

    def _peer(self) -> _Peer:
        return _Peer(self._services, self._load, self._peers, self._greeting_seconds)

    async def stop(self) -> None:
        """Listen no more, and cut what still runs."""
        for listener in self._listeners:
            listener.close()
        for peer in self._peers:
            peer.cut()
        await self._peers.gone(_CLOSE_SECONDS)
        for peer in self._peers:
            peer.abort()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()


def _port(text: str) -> int:
    port = int(text)
    # Not every loop checks it.
    if not 0 <= port <= 65_535:
        raise ValueError
    return port


class _Peers:
    """The open connections; `are_leaving` is for those that were accepted a moment after they were asked to."""

    def __init__(self) -> None:
        self.are_leaving = False
        self._open: set[_Peer] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __iter__(self) -> Iterator[_Peer]:
        return iter(list(self._open))

    def add(self, peer: _Peer) -> None:
        self._open.add(peer)
        self._is_empty.clear()

    def remove(self, peer: _Peer) -> None:
        self._open.discard(peer)
        if not self._open:
            self._is_empty.set()

    async def gone(self, seconds: float) -> None:
        """Wait until there is none, but not longer than that."""
        try:
            await asyncio.wait_for(self._is_empty.wait(), seconds)
        except TimeoutError:
            return


class _Peer(asyncio.Protocol):
    """A connection and its socket: one write for each read, or for each turn of the loop."""

    _transport: asyncio.Transport
    _connection: Connection
    _greeting: asyncio.TimerHandle

    def __init__(self, services: Mapping[str, Service], load: Load, peers: _Peers, greeting_seconds: float) -> None:
        self._services = services
        self._load = load
        self._peers = peers
        self._greeting_seconds = greeting_seconds
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._discarded = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._connection = Connection(self._services, self._load, wake=self._write_soon, now=self._loop.time)
        self._peers.add(self)
        self._greeting = self._loop.call_later(self._greeting_seconds, self._connection.check_greeted)
        if self._peers.are_leaving:
            self._connection.leave()

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            self._discard(data)
            return
        self._connection.receive(data)
        self._write()

    def pause_writing(self) -> None:
        self._connection.pause()

    def resume_writing(self) -> None:
        self._connection.resume()

    def connection_lost(self, _error: Exception | None) -> None:
        self._greeting.cancel()
        self._connection.lost()
        self._peers.remove(self)

    def leave(self) -> None:
        """Let the connection end with its last call."""
        self._connection.leave()

    def cut(self) -> None:
        """End the connection and every call on it."""
        self._connection.cut()

    def abort(self) -> None:
        """Close the socket, whether or not the peer has read everything."""
        self._transport.abort()

    def _write_soon(self) -> None:
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        written = self._connection.outlet.drain()
        # What a receiver said after the socket was lost has nowhere to go.
        if written and not self._transport.is_closing():
            self._transport.write(written)
        if self._connection.ended and not self._is_closing:
            self._close()

    def _close(self) -> None:
        """Say that nothing more comes, and read on: a socket closed with input unread takes back what it wrote."""
        self._is_closing = True
        if self._connection.outlet.paused:
            self._transport.abort()
        if self._connection.fault is not None:
            log.warning("connection closed: %s", self._connection.fault)
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(_CLOSE_SECONDS, self._transport.abort)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _DISCARDED_BYTES:
            self._transport.abort()
