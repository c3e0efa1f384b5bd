"""The gRPC server: ext_proc streams, Envoy's access log and the health service, on a unix socket or TCP."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from extproc import wire
from extproc.errors import ConfigError
from extproc.processor import Bounds, Processor

_MAX_MESSAGE_BYTES = 4 << 20
"""Largest message taken from Envoy; its body pieces are bounded by the connection's buffer, far below this."""


class Server:
    """The gRPC server around a `Processor`: ext_proc, Envoy's access log, and the gRPC health service."""

    def __init__(self, processor: Processor, bounds: Bounds, *, addresses: list[str]) -> None:
        self._processor = processor
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=bounds.max_exchanges,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # While exchanges wait for approvers, Envoy's keep-alive pings are all that passes for minutes. gRPC
                # would take that for an attack and close the connection, with every exchange on it.
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    wire.PROCESSOR_SERVICE, {"Process": grpc.stream_stream_rpc_method_handler(processor.process)}
                ),
                grpc.method_handlers_generic_handler(
                    wire.ACCESS_LOG_SERVICE,
                    {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(processor.access_logs)},
                ),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for address in addresses:
            try:
                self._server.add_insecure_port(address)
            except RuntimeError as failure:
                raise ConfigError(f"listen: cannot listen on {address!r}") from failure

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()
        await self._set_health(serving=True)

    async def watch(self) -> None:
        """Run the watchdog until cancelled."""
        while True:
            await asyncio.sleep(1)
            self._processor.sweep()

    async def stop(self) -> None:
        """Drain, then end the server; after this no exchange runs and every record is closed."""
        await self._set_health(serving=False)
        await self._processor.drain()
        await self._server.stop(0)

    async def _set_health(self, *, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        for service in ("", wire.PROCESSOR_SERVICE):
            await self._health.set(service, answer.SERVING if serving else answer.NOT_SERVING)
