"""`/models` and `/chat/completions` of the demo upstream, in the form in which Copilot answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from extproc.dev.upstream_script import Script, fragments, script_for, text_of

_SLOW_SECONDS = 0.05
# Long enough for the kernels to deliver what was written: a reset discards what the reader has not read yet.
_BEFORE_RESET_SECONDS = 0.05
_GZIP_WINDOW = 31  # zlib: the largest window (15) plus 16 for the gzip format
_MODELS = {
    "gpt-5": "Azure OpenAI",
    "gpt-5-mini": "Azure OpenAI",
    "gpt-4.1": "Azure OpenAI",
    "claude-sonnet-4.5": "Anthropic",
    "gemini-2.5-pro": "Google",
}


async def models(_request: web.Request) -> web.Response:
    """Answer GET /models."""
    return web.json_response({"object": "list", "data": [_model(name, vendor) for name, vendor in _MODELS.items()]})


@dataclass(frozen=True, slots=True)
class Chat:
    """Answer POST /chat/completions: `delay_seconds` between events, `sleep` waits that long, `now` is Unix time."""

    delay_seconds: float
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Decide the script and play it as one JSON object or as server-sent events."""
        body = await _json_object(request)
        if body is None or not isinstance(body.get("messages"), list) or not isinstance(body.get("model"), str):
            return _error(400, "invalid_request_body", "The body must be a JSON object with model and messages.")
        tools = body.get("tools")
        authorization = request.headers.get("Authorization", "")
        script = script_for(body["messages"], tools if isinstance(tools, list) else [], authorization)
        if script.instead == "fail":
            return _error(500, "internal_error", "The demo upstream failed, as asked.")
        if script.instead == "html":
            return web.Response(
                text="<!doctype html><title>Sign in</title><p>A page, not JSON.", content_type="text/html"
            )
        answer = _Answer(body, script, int(self.now()))
        if body.get("stream") is True:
            return await self._send(request, script, "text/event-stream", [*map(_event, answer.frames()), _DONE])
        text = _json(answer.completion())
        half = len(text) // 2
        return await self._send(request, script, "application/json", [text[:half], text[half:]])

    async def _send(
        self, request: web.Request, script: Script, content_type: str, parts: list[bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type, "Cache-Control": "no-cache"})
        if script.echo_authorization:
            response.headers["x-echo-authorization"] = request.headers.get("Authorization", "")
        if script.gzip:
            response.headers["Content-Encoding"] = "gzip"
            parts = list(_gzipped(parts))
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


@dataclass(frozen=True, slots=True)
class _Answer:
    """One scripted answer in the two forms of the chat completions dialect."""

    body: dict[str, Any]
    script: Script
    created: int

    def completion(self) -> dict[str, Any]:
        """Return the whole answer as one object."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.script.pieces) or None}
        if (call := self.script.tool_call) is not None:
            function = {"name": call.name, "arguments": call.arguments}
            message["tool_calls"] = [{"id": call.id, "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason()}
        return self._object("chat.completion", [choice]) | {"usage": self._usage()}

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield the answer as Copilot streams it: filter results first, with no choices; the usage last."""
        filters = {"hate": {"filtered": False, "severity": "safe"}}
        results = [{"prompt_index": 0, "content_filter_results": filters}]
        yield {"choices": [], "created": 0, "id": "", "prompt_filter_results": results}
        yield self._delta({"role": "assistant", "content": ""})
        for piece in self.script.pieces:
            yield self._delta({"content": piece})
        if (call := self.script.tool_call) is not None:
            function = {"name": call.name, "arguments": ""}
            yield self._delta({"tool_calls": [{"index": 0, "id": call.id, "type": "function", "function": function}]})
            for fragment in fragments(call.arguments):
                yield self._delta({"tool_calls": [{"index": 0, "function": {"arguments": fragment}}]})
        yield self._delta({}, self._finish_reason())
        yield self._object("chat.completion.chunk", []) | {"usage": self._usage()}

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", [choice])

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        answer_id = hashlib.sha256(_json(self.body["messages"])).hexdigest()[:24]
        return {
            "id": f"chatcmpl-{answer_id}",
            "object": kind,
            "created": self.created,
            "model": self.body["model"],
            "choices": choices,
        }

    def _finish_reason(self) -> str:
        return "stop" if self.script.tool_call is None else "tool_calls"

    def _usage(self) -> dict[str, int]:
        call = self.script.tool_call
        # Words stand in for tokens.
        prompt = sum(len(text_of(message).split()) for message in self.body["messages"])
        completion = len(("".join(self.script.pieces) if call is None else call.arguments).split())
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


_DONE = b"data: [DONE]\n\n"


def _event(frame: dict[str, Any]) -> bytes:
    return b"data: " + _json(frame) + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _json_object(request: web.Request) -> dict[str, Any] | None:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status)


def _gzipped(parts: list[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(wbits=_GZIP_WINDOW)
    for part in parts:
        yield compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    # To linger for no time turns the close into a reset (socket(7), SO_LINGER).
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _model(name: str, vendor: str) -> dict[str, Any]:
    limits = {"max_context_window_tokens": 200_000, "max_prompt_tokens": 128_000, "max_output_tokens": 64_000}
    return {
        "id": name,
        "name": name,
        "object": "model",
        "vendor": vendor,
        "version": name,
        "preview": False,
        "model_picker_enabled": True,
        "policy": {"state": "enabled", "terms": ""},
        "supported_endpoints": ["/chat/completions"],
        "capabilities": {
            "type": "chat",
            "object": "model_capabilities",
            "family": name,
            "tokenizer": "o200k_base",
            "limits": limits,
            "supports": {"streaming": True, "tool_calls": True, "parallel_tool_calls": True},
        },
    }
