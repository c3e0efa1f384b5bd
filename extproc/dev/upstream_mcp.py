"""The MCP server of the demo upstream, over streamable HTTP.

Source: Model Context Protocol specification 2025-06-18, "Transports", "Lifecycle" and "Tools".
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from extproc.dev.upstream_model import ModelEndpoint, event, to_json
from extproc.dev.upstream_script import Script, script_for

_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
_SESSION_HEADER = "Mcp-Session-Id"
_MAX_SESSIONS = 1000
# JSON-RPC 2.0 specification, section 5.1.
_PARSE_ERROR, _INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_TOOLS = [
    {
        "name": "ask",
        "description": "Answer a prompt as the demo models do.",
        "inputSchema": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    },
    {"name": "get_me", "description": "Say who the caller is.", "inputSchema": {"type": "object", "properties": {}}},
]


class _RpcError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class McpServer:
    """Answer `/mcp/`: JSON, or a stream of events for a call that asks for progress."""

    endpoint: ModelEndpoint
    _sessions: dict[str, None] = field(default_factory=dict)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Take one JSON-RPC message."""
        accepted = request.headers.get("Accept", "")
        if not all(kind in accepted for kind in ("application/json", "text/event-stream")):
            return _refused(406, _INVALID_REQUEST, "Accept must list application/json and text/event-stream")
        message = _message(await request.read())
        if isinstance(message, web.Response):
            return message
        if message["method"] == "initialize":
            return self._initialize(message)
        # Versions after ours have no sessions and begin with this; that we do not know it says to a client what we are.
        if message["method"] != "server/discover" and (fault := self._session_fault(request)):
            return fault
        if "id" not in message:
            return web.Response(status=202)
        try:
            script, result = _answered(message, request.headers.get("Authorization", ""))
            outcome = {"result": result}
        except _RpcError as fault_:
            script, outcome = Script(), {"error": {"code": fault_.code, "message": fault_.message}}
        return await self._send(request, message, script, {"jsonrpc": "2.0", "id": message["id"], **outcome})

    async def delete(self, request: web.Request) -> web.Response:
        """End a session."""
        if fault := self._session_fault(request):
            return fault
        del self._sessions[request.headers[_SESSION_HEADER]]
        return web.Response(status=204)

    async def get(self, _request: web.Request) -> web.Response:
        """Refuse to open a stream of the server's own messages: there are none."""
        return web.Response(status=405, headers={"Allow": "POST, DELETE"})

    async def _send(
        self, request: web.Request, message: dict[str, Any], script: Script, answer: dict[str, Any]
    ) -> web.StreamResponse:
        params = message.get("params")
        token = (params.get("_meta") or {}).get("progressToken") if isinstance(params, dict) else None
        if token is None:
            return await self.endpoint.send(request, script, "application/json", [to_json(answer)])
        progress = {"progressToken": token, "progress": 1, "total": 1, "message": "asking"}
        notice = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
        parts = [event(notice, "message"), event(answer, "message")]
        return await self.endpoint.send(request, script, "text/event-stream", parts)

    def _initialize(self, message: dict[str, Any]) -> web.Response:
        params = message.get("params")
        if not isinstance(params, dict) or not isinstance(params.get("protocolVersion"), str):
            return _refused(400, _INVALID_PARAMS, "initialize needs a protocolVersion")
        if len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session = secrets.token_hex(16)
        self._sessions[session] = None
        asked = params["protocolVersion"]
        result: dict[str, Any] = {
            "protocolVersion": asked if asked in _VERSIONS else _VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "demo-upstream", "version": "0.1.0"},
        }
        answer = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
        return web.json_response(answer, headers={_SESSION_HEADER: session})

    def _session_fault(self, request: web.Request) -> web.Response | None:
        session = request.headers.get(_SESSION_HEADER)
        if session is None:
            return _refused(400, _INVALID_REQUEST, f"{_SESSION_HEADER} is missing: initialize first")
        return None if session in self._sessions else _refused(404, _INVALID_REQUEST, "Session not found")


def _message(data: bytes) -> dict[str, Any] | web.Response:
    try:
        message = json.loads(data)
    except ValueError:
        return _refused(400, _PARSE_ERROR, "Parse error")
    is_request = isinstance(message, dict) and message.get("jsonrpc") == "2.0"
    if not is_request or not isinstance(message.get("method"), str) or not isinstance(message.get("id", 0), str | int):
        return _refused(400, _INVALID_REQUEST, "expected one JSON-RPC 2.0 request or notification")
    return dict(message)


def _answered(message: dict[str, Any], authorization: str) -> tuple[Script, dict[str, Any]]:
    """Return how the answer is played, and its result; raises _RpcError."""
    match message["method"]:
        case "ping":
            return Script(), {}
        case "tools/list":
            return Script(), {"tools": _TOOLS}
        case "tools/call":
            script, said = _called(message.get("params"), authorization)
            return script, {"content": [{"type": "text", "text": said}], "isError": False}
        case _:
            raise _RpcError(_UNKNOWN_METHOD, "Method not found")


def _called(params: object, authorization: str) -> tuple[Script, str]:
    """Return how a tool's answer is played, and its text; raises _RpcError."""
    name, arguments = (params.get("name"), params.get("arguments")) if isinstance(params, dict) else (None, None)
    if name == "get_me":
        return Script(), to_json({"login": "demo-gateway"}).decode()
    if name != "ask":
        raise _RpcError(_INVALID_PARAMS, "Unknown tool")
    prompt = arguments.get("prompt") if isinstance(arguments, dict) else None
    if not isinstance(prompt, str):
        raise _RpcError(_INVALID_PARAMS, "ask needs a prompt")
    script = script_for([{"role": "user", "content": prompt}], [], authorization)
    if script.instead is not None:
        raise _RpcError(_INVALID_REQUEST, "The demo upstream failed, as asked.")
    return script, script.text()


def _refused(status: int, code: int, message: str) -> web.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return web.json_response(body, status=status)
