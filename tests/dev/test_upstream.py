from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream import make_app

GOOD = {"Authorization": "Bearer gho_good"}
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
GUARDED = [
    "/models",
    "/agents",
    "/copilot_internal/v2/token",
    "/copilot_internal/user",
    "/copilot_internal/content_exclusion",
    "/copilot/mcp_registry",
    "/embeddings/models",
    "/user",
    "/rate_limit",
    "/repos/o/r",
    "/repos/o/r/issues",
    "/repos/o/r/releases",
    "/repos/o/r/contents/a/b",
    "/repos/o/r/pulls/1",
]


@pytest.fixture
async def upstream() -> AsyncIterator[TestClient[Any, Any]]:
    app = make_app(lambda: {"gho_good"}, delay_seconds=0, now=lambda: 1_800_000_000.0)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _seen(upstream: TestClient[Any, Any]) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = await (await upstream.get("/__seen")).json()
    return seen


@pytest.mark.parametrize("path", GUARDED)
async def test_everything_needs_a_credential_that_is_accepted(upstream: TestClient[Any, Any], path: str) -> None:
    without = await upstream.get(path)
    assert (without.status, (await without.json())["message"]) == (401, "Requires authentication")
    wrong = await upstream.get(path, headers={"Authorization": "Bearer gho_other"})
    assert (wrong.status, (await wrong.json())["message"]) == (401, "Bad credentials")
    assert (await upstream.get(path, headers=GOOD)).status == 200


NOT_SET = [
    "/agents/swe/internal/memory/v0/enabled",
    "/copilot_internal/managed_settings",
    "/copilot_internal/team_customizations",
]


@pytest.mark.parametrize("path", NOT_SET)
async def test_what_an_organization_has_not_set_is_not_found_by_those_who_may_ask(
    upstream: TestClient[Any, Any], path: str
) -> None:
    for headers, status in ({}, 401), ({"Authorization": "Bearer gho_other"}, 401), (GOOD, 404):
        assert (await upstream.get(path, headers=headers)).status == status


MODEL = {"model": "m", "max_tokens": 9}
POSTS = {
    "/chat/completions": CHAT,
    "/responses": MODEL | {"input": "hi"},
    "/v1/messages": CHAT | MODEL,
    "/v1/messages/count_tokens": CHAT,
    "/v1/engines/m/completions": {"prompt": "hi"},
    "/completions": MODEL | {"prompt": "hi"},
    "/embeddings": MODEL | {"input": "hi"},
    "/graphql": {"query": "{viewer{login}}"},
}


@pytest.mark.parametrize("path", POSTS)
async def test_every_dialect_is_served_and_needs_a_credential_too(upstream: TestClient[Any, Any], path: str) -> None:
    assert (await upstream.post(path, json=POSTS[path])).status == 401
    response = await upstream.post(path, json=POSTS[path], headers=GOOD)
    assert (response.status, response.content_type) == (200, "application/json")


async def test_a_web_socket_is_not_served(upstream: TestClient[Any, Any]) -> None:
    assert (await upstream.get("/responses", headers=GOOD)).status == 426


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nope"), ("POST", "/models"), ("DELETE", "/models"), ("GET", "/repos/o/r/pulls/x"), ("GET", "/")],
)
async def test_anything_else_is_not_found_as_github_says_it(
    upstream: TestClient[Any, Any], method: str, path: str
) -> None:
    response = await upstream.request(method, path, headers=GOOD)
    assert (response.status, (await response.json())["message"]) == (404, "Not Found")


async def test_ping_is_open(upstream: TestClient[Any, Any]) -> None:
    assert await (await upstream.get("/_ping")).text() == "pong"


@pytest.mark.parametrize("path", ["/models", "/user", "/nope", "/telemetry", *NOT_SET])
async def test_every_answer_carries_ids_and_the_session_credential_that_a_gateway_must_strip(
    upstream: TestClient[Any, Any], path: str
) -> None:
    first, second = [await upstream.get(path, headers=GOOD) for _ in range(2)]
    assert first.headers["copilot-edits-session"].startswith("demo-")
    for name in ("x-request-id", "x-github-request-id"):
        assert first.headers[name] != second.headers[name]


async def test_a_stream_carries_them_too(upstream: TestClient[Any, Any]) -> None:
    response = await upstream.post("/chat/completions", json=CHAT | {"stream": True}, headers=GOOD)
    for name in ("x-request-id", "x-github-request-id", "copilot-edits-session"):
        assert name in response.headers
    assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_seen_shows_each_request_with_all_its_headers_as_they_came(upstream: TestClient[Any, Any]) -> None:
    headers = [("x-TWICE", "1"), ("x-TWICE", "2"), *GOOD.items()]
    await upstream.post("/chat/completions?a=b%26c", json=CHAT, headers=headers)
    await upstream.post("/nope", data=b"plain \xff")
    await upstream.get("/user")
    first, second, third = await _seen(upstream)
    assert (first["method"], first["path"], first["body"]) == ("POST", "/chat/completions?a=b%26c", CHAT)
    assert {("x-TWICE", "1"), ("x-TWICE", "2"), *GOOD.items()} <= {(name, value) for name, value in first["headers"]}
    assert (second["path"], second["body"]) == ("/nope", "plain \ufffd")
    assert (third["method"], third["body"]) == ("GET", None)


async def test_seen_can_be_cleared_and_does_not_see_itself(upstream: TestClient[Any, Any]) -> None:
    await upstream.get("/user")
    assert (await upstream.delete("/__seen")).status == 204
    assert await _seen(upstream) == []


async def test_seen_keeps_the_last_200_requests_and_no_large_body(upstream: TestClient[Any, Any]) -> None:
    for number in range(201):
        await upstream.get(f"/{number}")
    large = json.dumps("x" * 256 * 1024)
    await upstream.post("/large", data=large)
    seen = await _seen(upstream)
    assert [entry["path"] for entry in seen] == [*(f"/{number}" for number in range(2, 201)), "/large"]
    assert seen[-1]["body"] == {"omitted_bytes": len(large)}


async def test_the_application_does_not_log_requests(
    upstream: TestClient[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await upstream.post("/chat/completions", json=CHAT, headers=GOOD)
    assert "gho_good" not in caplog.text
