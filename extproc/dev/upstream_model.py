"""What all dialects of the demo upstream share: read a request, decide its script, play the answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from extproc.dev.upstream_encoding import ENCODERS
from extproc.dev.upstream_script import Script, script_for, text_of

_SLOW_SECONDS = 0.05
# Long enough for the kernels to deliver what was written: a reset discards what the reader has not read yet.
_BEFORE_RESET_SECONDS = 0.05
_SEALED_PARTS = 2


class BadRequestError(Exception):
    """Say what a request lacks; `param` is the field."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in the terms of the script: messages and tools as chat completions has them."""

    body: dict[str, Any]
    model: str
    messages: list[Any]
    tools: list[Any] = field(default_factory=list)
    stream: bool = False
    wants_reasoning: bool = False

    def id(self) -> str:
        """Return 24 hex digits, the same for the same messages."""
        return hashlib.sha256(to_json(self.messages)).hexdigest()[:24]

    def prompt_tokens(self) -> int:
        """Count words, which stand in for tokens."""
        return sum(len(text_of(message).split()) for message in self.messages)


class Wire(Protocol):
    """Speak one dialect."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        ...

    def whole(self, asked: Asked, script: Script, created: int) -> Any:  # noqa: ANN401 - JSON
        """Return the answer as one JSON value."""
        ...

    def events(self, asked: Asked, script: Script, created: int) -> Iterator[bytes]:
        """Yield the answer as the events of a stream."""
        ...

    def error(self, status: int, code: str, message: str, param: str | None) -> Any:  # noqa: ANN401 - JSON
        """Return the body of an error."""
        ...


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """Answer the requests of a dialect: `delay_seconds` between events, `sleep` waits that long, `now` is Unix time."""

    wire: Wire
    delay_seconds: float
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Decide the script and play it as one JSON value or as server-sent events."""
        try:
            asked = self.wire.read(_json_object(await request.read()) | dict(request.match_info))
        except BadRequestError as fault:
            return self._error(400, "invalid_request_body", fault.message, fault.param)
        script = script_for(asked.messages, asked.tools, request.headers.get("Authorization", ""))
        if script.instead == "fail":
            return self._error(500, "internal_error", "The demo upstream failed, as asked.", None)
        if script.instead == "html":
            return web.Response(
                text="<!doctype html><title>Sign in</title><p>A page, not JSON.", content_type="text/html"
            )
        created = int(self.now())
        if asked.stream:
            return await self.send(request, script, "text/event-stream", [*self.wire.events(asked, script, created)])
        body = to_json(self.wire.whole(asked, script, created))
        half = len(body) // 2
        return await self.send(request, script, "application/json", [body[:half], body[half:]])

    async def send(
        self, request: web.Request, script: Script, content_type: str, parts: list[bytes]
    ) -> web.StreamResponse:
        """Send the parts one after the other, as the script says."""
        response = web.StreamResponse(headers={"Content-Type": content_type, "Cache-Control": "no-cache"})
        if script.echo_authorization:
            response.headers["x-echo-authorization"] = request.headers.get("Authorization", "")
        if script.encoding is not None:
            response.headers["Content-Encoding"] = script.encoding
            parts = list(ENCODERS[script.encoding](parts))
        try:
            await response.prepare(request)
            for part in parts[: len(parts) // 2] if script.reset else parts:
                await response.write(part)
                await self.sleep(_SLOW_SECONDS if script.slow else self.delay_seconds)
        except ConnectionResetError:
            # The client hung up in the middle of its answer, which is its right.
            return response
        if script.reset:
            await self.sleep(_BEFORE_RESET_SECONDS)
            _reset(request)
        return response

    def _error(self, status: int, code: str, message: str, param: str | None) -> web.Response:
        return web.json_response(self.wire.error(status, code, message, param), status=status)


def need(condition: object, param: str, expected: str) -> None:
    """Raise BadRequestError unless the condition holds."""
    if not condition:
        raise BadRequestError(param, f"Invalid value for '{param}': expected {expected}.")


def need_common(body: dict[str, Any]) -> None:
    """Check what every dialect's request has: a model, perhaps a list of tools, perhaps `stream`."""
    need(isinstance(body.get("model"), str) and body["model"], "model", "a non-empty string")
    need(body.get("stream") is None or isinstance(body["stream"], bool), "stream", "true or false")
    need(is_objects(body.get("tools") or []), "tools", "a list of objects")


def is_objects(value: object) -> bool:
    """Say whether a value is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def openai_error(code: str, message: str, param: str | None) -> dict[str, Any]:
    """Return the body of an error as OpenAI's API and Copilot's have it."""
    kind = "server_error" if code == "internal_error" else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(data: object, name: str | None = None) -> bytes:
    """Return one server-sent event."""
    line = b"" if name is None else f"event: {name}\n".encode()
    return line + b"data: " + to_json(data) + b"\n\n"


def to_json(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sealed(text: str) -> str:
    """Return opaque text that `is_sealed` knows again, as signatures and encrypted reasoning are to a client."""
    # Upper and lower case, digits and signs, like the base64 it stands for.
    stem = hashlib.sha256(text.encode()).hexdigest()
    return f"gAAAAAB{stem}.{hashlib.sha256(stem.encode()).hexdigest()}=="


def is_sealed(value: object) -> bool:
    """Say whether a value is what `sealed` returned, to the byte."""
    parts = value.removeprefix("gAAAAAB").removesuffix("==").split(".") if isinstance(value, str) else []
    return len(parts) == _SEALED_PARTS and hashlib.sha256(parts[0].encode()).hexdigest() == parts[1]


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        raise BadRequestError(None, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequestError(None, "The body must be a JSON object.")
    return body


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    # To linger for no time turns the close into a reset (socket(7), SO_LINGER).
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
