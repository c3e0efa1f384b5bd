"""The service at its sockets: ext_proc streams, Envoy's access log and the health service, over either transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from extproc import health, wire
from extproc.carrier import Service, TransportName
from extproc.health import Health
from extproc.outside import Bounds
from extproc.processor import Processor

_OTHER_STREAMS = 64
"""Beside exchanges: the access log and the health checks of some Envoys."""


class Transport(Protocol):
    """Carry calls of Envoy to the services."""

    async def start(self, addresses: list[str]) -> None:
        """Begin to serve at `unix:PATH` or `HOST:PORT`; raises ConfigError."""
        ...

    def goaway(self) -> None:
        """Ask every peer for a new connection; running calls go on."""
        ...

    async def stop(self) -> None:
        """End; what still runs is cut off."""
        ...


class Server:
    """Serve a `Processor` at `addresses`."""

    def __init__(
        self, processor: Processor, bounds: Bounds, *, addresses: list[str], transport: TransportName = "http2"
    ) -> None:
        self._processor = processor
        self._addresses = addresses
        self._health = Health(wire.PROCESSOR_SERVICE)
        services = {
            f"/{wire.PROCESSOR_SERVICE}/Process": processor.open,
            f"/{wire.ACCESS_LOG_SERVICE}/StreamAccessLogs": processor.open_log,
            health.CHECK: self._health.check,
        }
        self._transport = _transport(transport, services, bounds.max_exchanges + _OTHER_STREAMS)

    async def start(self) -> None:
        """Begin to serve; raises ConfigError."""
        await self._transport.start(self._addresses)
        self._health.serving = True

    async def watch(self, *, beat_seconds: float = 1.0) -> None:
        """Run the watchdog until cancelled."""
        while True:
            await asyncio.sleep(beat_seconds)
            self._processor.sweep()

    def lame(self) -> None:
        """Say that it is not healthy, so that Envoy opens its next streams elsewhere; all else goes on."""
        self._health.serving = False

    def goaway(self) -> None:
        """Have Envoy open its next streams elsewhere; what runs goes on."""
        self._transport.goaway()

    async def stop(self) -> None:
        """Drain, then end the server; after this no exchange runs and every record is closed."""
        self._health.serving = False
        await self._processor.drain()
        await self._transport.stop()


def _transport(name: TransportName, services: Mapping[str, Service], max_streams: int) -> Transport:
    # Only the one that is used is loaded: grpc takes memory and threads.
    if name == "grpc":
        from extproc.grpc_transport import GrpcServer  # noqa: PLC0415

        return GrpcServer(services, max_streams=max_streams)
    from extproc.http2.server import Http2Server  # noqa: PLC0415

    return Http2Server(services, max_streams=max_streams)
