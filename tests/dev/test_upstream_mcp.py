from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream_chat import ChatWire
from extproc.dev.upstream_mcp import McpServer
from extproc.dev.upstream_model import ModelEndpoint

Upstream = TestClient[Any, Any]
ACCEPT = {"Accept": "application/json, text/event-stream"}
START = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = McpServer(ModelEndpoint(ChatWire(), 0, lambda: 1.0))
    app = web.Application()
    app.add_routes([web.post("/", server.post), web.get("/", server.get), web.delete("/", server.delete)])
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _send(upstream: Upstream, message: Any, session: str | None = None) -> ClientResponse:
    headers = ACCEPT | ({"Mcp-Session-Id": session} if session else {})
    return await upstream.post("/", json=message, headers=headers)


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def _session(upstream: Upstream) -> str:
    response = await _send(upstream, _rpc("initialize", **START))
    assert (await response.json())["result"]["protocolVersion"] == "2025-06-18"
    return response.headers["Mcp-Session-Id"]


async def test_a_session_begins_lists_tools_and_ends(upstream: Upstream) -> None:
    session = await _session(upstream)
    assert (await _send(upstream, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)).status == 202
    assert (await (await _send(upstream, _rpc("ping"), session)).json())["result"] == {}
    listed = (await (await _send(upstream, _rpc("tools/list"), session)).json())["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["ask", "get_me"]
    assert (await upstream.delete("/", headers={"Mcp-Session-Id": session})).status == 204
    assert (await _send(upstream, _rpc("ping"), session)).status == 404
    assert (await upstream.get("/", headers=ACCEPT)).status == 405


async def test_a_client_that_wants_no_session_learns_that_it_must_initialize(upstream: Upstream) -> None:
    response = await _send(upstream, _rpc("server/discover"))
    answer = await response.json()
    assert (response.status, answer["id"], answer["error"]["code"]) == (200, 1, -32601)


async def test_a_tool_answers_by_the_script_in_json_and_with_progress_as_a_stream(upstream: Upstream) -> None:
    session = await _session(upstream)
    call = _rpc("tools/call", name="ask", arguments={"prompt": "count to 3"})
    answer = await (await _send(upstream, call, session)).json()
    assert answer["result"] == {"content": [{"type": "text", "text": "1 2 3 "}], "isError": False}
    call["params"]["_meta"] = {"progressToken": 7}
    response = await _send(upstream, call, session)
    assert response.content_type == "text/event-stream"
    progress, streamed = [json.loads(one.split("data: ")[1]) for one in (await response.text()).split("\n\n")[:-1]]
    assert (progress["method"], progress["params"]["progressToken"]) == ("notifications/progress", 7)
    assert streamed == answer


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (_rpc("tools/steal"), -32601),
        (_rpc("tools/call"), -32602),
        (_rpc("tools/call", name="rm", arguments={}), -32602),
        (_rpc("tools/call", name="ask", arguments={"prompt": 1}), -32602),
        (_rpc("tools/call", name="ask", arguments={"prompt": "fail"}), -32600),
    ],
)
async def test_what_cannot_be_done_is_an_error_of_json_rpc(upstream: Upstream, message: Any, code: int) -> None:
    response = await _send(upstream, message, await _session(upstream))
    answer = await response.json()
    assert (response.status, answer["id"], answer["error"]["code"]) == (200, 1, code)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", ACCEPT, 400),
        (b"[]", ACCEPT, 400),
        (b'{"id":1,"method":"ping"}', ACCEPT, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"initialize"}', ACCEPT, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', ACCEPT, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', ACCEPT | {"Mcp-Session-Id": "x"}, 404),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"Accept": "application/json"}, 406),
    ],
)
async def test_what_is_no_message_of_a_session_is_refused(
    upstream: Upstream, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = await upstream.post("/", data=body, headers=headers)
    assert (response.status, (await response.json())["id"]) == (status, None)
