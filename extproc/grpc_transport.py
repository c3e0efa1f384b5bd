"""Carry streams with grpc.aio; `http2` is the other way to do it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from functools import partial

import grpc
import grpc.aio

from extproc.carrier import MAX_MESSAGE_BYTES, Receiver, Service, Status
from extproc.errors import ConfigError

log = logging.getLogger("extproc.grpc")

_Context = grpc.aio.ServicerContext[bytes, bytes]

_LEAVE_SECONDS = 86_400.0

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class GrpcServer:
    """Serve the services, by path, at most `max_streams` calls at a time."""

    def __init__(self, services: Mapping[str, Service], *, max_streams: int) -> None:
        self._leaving: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=max_streams,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # While exchanges wait for approvers, Envoy's keep-alive pings are all that passes for minutes. gRPC
                # would take that for an attack and close the connection, with every exchange on it.
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        for path, service in services.items():
            name, _, method = path.removeprefix("/").partition("/")
            serving = partial(_serve, service)
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(serving)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {method: handler}),))

    async def start(self, addresses: list[str]) -> None:
        """Begin to serve at `unix:PATH` or `HOST:PORT`; raises ConfigError."""
        for address in addresses:
            try:
                self._server.add_insecure_port(address)
            except RuntimeError as failure:
                raise ConfigError(f"listen: cannot listen on {address!r}") from failure
        await self._server.start()

    def goaway(self) -> None:
        """Ask every peer for a new connection; running calls go on."""
        # gRPC does so first when it stops; that it cuts off what runs is further away than any drain.
        self._leaving = asyncio.create_task(self._server.stop(_LEAVE_SECONDS))

    async def stop(self) -> None:
        """End; what still runs is cut off."""
        await self._server.stop(0)
        if self._leaving is not None:
            await self._leaving


async def _serve(service: Service, _requests: object, context: _Context) -> None:
    stream = _Stream(context)
    receiver: Receiver | None = None
    try:
        receiver = service(stream)
        await stream.serve(receiver)
    except asyncio.CancelledError:
        if receiver is not None:
            receiver.reset()
        raise
    except grpc.aio.AbortError:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever breaks, the call fails
        log.error("a receiver failed", extra={"fields": {"fault": type(fault).__name__}})  # noqa: TRY400 - no text
        if receiver is not None:
            receiver.reset()
        await context.abort(grpc.StatusCode.INTERNAL, "the receiver failed")


class _Stream:
    """One call, as a `carrier.Stream`."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.metadata = {name: str(value) for name, value in context.invocation_metadata() or ()}
        self._task = asyncio.current_task()
        self._out: deque[bytes] = deque()
        self._status: tuple[Status, str] | None = None
        # It reads now: what is sent meanwhile is written by a task of its own, and an end cancels the reading.
        self._reading = False
        self._writing: asyncio.Task[None] | None = None
        self._may_read = True
        self._woken = asyncio.Event()

    def send(self, message: bytes) -> None:
        """Send a message."""
        if self._status is None:
            self._out.append(message)
            if self._reading and self._writing is None:
                self._writing = asyncio.create_task(self._write())

    def more(self) -> None:
        """Read on."""
        self._may_read = True
        self._woken.set()

    def finish(self) -> None:
        """End with OK."""
        self._end(Status.OK, "")

    def abort(self, status: Status, text: str) -> None:
        """End with another status."""
        self._end(status, text)

    def _end(self, status: Status, text: str) -> None:
        if self._status is None:
            self._status = status, text
            if self._reading and self._task is not None:
                self._task.cancel()
            self._woken.set()

    async def serve(self, receiver: Receiver) -> None:
        """Carry messages both ways until the end."""
        while True:
            await self._write_all()
            if self._status is not None:
                await self._leave(*self._status)
                return
            if not self._may_read:
                await self._woken.wait()
                self._woken.clear()
                continue
            message = await self._read()
            if isinstance(message, bytes):
                self._may_read = receiver.receive(message)
            elif self._status is None:
                # All that can come of it now is what the receiver sends.
                self._may_read = False
                receiver.end()

    async def _read(self) -> object:
        """Return the next message, or something else at the end of the peer's messages, and of the call."""
        self._reading = True
        try:
            return await self._context.read()
        except asyncio.CancelledError:
            if self._status is None or self._task is None:
                raise
            self._task.uncancel()
            return None
        finally:
            self._reading = False

    async def _write_all(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
        await self._write()

    async def _write(self) -> None:
        while self._out:
            await self._context.write(self._out.popleft())
        if self._reading:
            self._writing = None

    async def _leave(self, status: Status, text: str) -> None:
        # A peer that has already reset the stream cannot be told anything more.
        if status is not Status.OK and not self._context.cancelled():
            await self._context.abort(_STATUS[status], text)
