"""A demo upstream that answers like GitHub Copilot's API and a corner of GitHub's REST and GraphQL APIs.

What it answers to a prompt is scripted by words in it: see `upstream_script`. It accepts only the credentials it is
told of and keeps the last requests in memory, credentials included, for `GET /__seen` (`DELETE /__seen` forgets them):
that is how a person or a test sees which credential arrived. Development only.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from extproc.dev.upstream_chat import ChatWire
from extproc.dev.upstream_completions import CompletionsWire
from extproc.dev.upstream_embeddings import EmbeddingsWire
from extproc.dev.upstream_github import (
    Credentials,
    GitHub,
    content_exclusion,
    contents,
    embeddings_models,
    issues,
    mcp_registry,
    nothing_set,
    pull_request,
    releases,
    repository,
    user,
)
from extproc.dev.upstream_graphql import graphql
from extproc.dev.upstream_mcp import McpServer
from extproc.dev.upstream_messages import CountTokensWire, MessagesWire
from extproc.dev.upstream_model import ModelEndpoint, Wire
from extproc.dev.upstream_models import agents, models, no_web_socket
from extproc.dev.upstream_responses import ResponsesWire
from extproc.dev.upstream_telemetry import experiments, report

_SEEN_REQUESTS = 200
_SEEN_BODY_BYTES = 256 * 1024  # a longer body is told by its length only, which bounds what we keep to 50 MiB
_MAX_BODY_BYTES = 64 * 1024 * 1024
_SEEN_PATH = "/__seen"
_DOCUMENTATION = "https://docs.github.com/rest"
_WIRES: Mapping[str, Wire] = {
    "/chat/completions": ChatWire(),
    "/responses": ResponsesWire(),
    "/v1/messages": MessagesWire(),
    "/v1/messages/count_tokens": CountTokensWire(),
    "/v1/engines/{engine}/completions": CompletionsWire(),
    "/completions": CompletionsWire(),
    "/embeddings": EmbeddingsWire(),
}
# To Copilot CLI a 404 says that the account's organization has set nothing there.
_NOT_SET = ("/copilot_internal/managed_settings", "/copilot_internal/team_customizations")


def make_app(
    accepted_tokens: Callable[[], set[str]],
    *,
    delay_seconds: float,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> web.Application:
    """Build the upstream.

    `accepted_tokens` returns the GitHub tokens (without the scheme) that are good at this moment, `delay_seconds` lies
    between streamed events, `now` tells Unix seconds.
    """
    credentials = Credentials(accepted_tokens, now)
    seen = _Seen()

    app = web.Application(middlewares=[seen.remember], client_max_size=_MAX_BODY_BYTES)
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        [
            web.get(_SEEN_PATH, seen.show),
            web.delete(_SEEN_PATH, seen.clear),
            web.get("/_ping", _ping),
            web.get("/telemetry", experiments),
            web.post("/telemetry", report),
            *_copilot(credentials, delay_seconds, now, sleep),
            *_github(credentials, GitHub(credentials, now)),
            web.route("*", "/{rest:.*}", _not_found),
        ]
    )
    return app


def _copilot(
    credentials: Credentials, delay_seconds: float, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
) -> Iterator[web.RouteDef]:
    def route(method: str, path: str, handler: Handler) -> web.RouteDef:
        return web.route(method, path, _guarded(handler, credentials.is_copilot))

    yield route("GET", "/models", models)
    yield route("GET", "/agents", agents)
    yield route("GET", "/responses", no_web_socket)
    yield route("GET", "/agents/swe/internal/memory/v0/enabled", nothing_set)
    for path, wire in _WIRES.items():
        yield route("POST", path, ModelEndpoint(wire, delay_seconds, now, sleep).handle)
    # The server writes its own messages; only how they are sent is shared.
    mcp = McpServer(ModelEndpoint(ChatWire(), delay_seconds, now, sleep))
    for path in ("/mcp/", "/mcp/readonly"):
        yield route("POST", path, mcp.post)
        yield route("DELETE", path, mcp.delete)
        yield route("GET", path, mcp.get)


def _github(credentials: Credentials, github: GitHub) -> Iterator[web.RouteDef]:
    def rest(path: str, handler: Handler) -> web.RouteDef:
        return web.get(path, _guarded(handler, credentials.is_github))

    yield rest("/copilot_internal/v2/token", github.copilot_token)
    yield rest("/copilot_internal/user", github.copilot_user)
    yield rest("/copilot_internal/content_exclusion", content_exclusion)
    for path in _NOT_SET:
        yield rest(path, nothing_set)
    yield rest("/copilot/mcp_registry", mcp_registry)
    yield rest("/embeddings/models", embeddings_models)
    yield rest("/rate_limit", github.rate_limit)
    yield rest("/user", user)
    yield rest("/repos/{owner}/{repo}", repository)
    yield rest("/repos/{owner}/{repo}/issues", issues)
    yield rest("/repos/{owner}/{repo}/releases", releases)
    yield rest("/repos/{owner}/{repo}/contents/{path:.+}", contents)
    yield rest(r"/repos/{owner}/{repo}/pulls/{number:\d{1,9}}", pull_request)
    yield web.post("/graphql", _guarded(graphql, credentials.is_github))


class _Seen:
    """Remember the last requests."""

    def __init__(self) -> None:
        self._requests: deque[dict[str, Any]] = deque(maxlen=_SEEN_REQUESTS)

    @web.middleware
    async def remember(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != _SEEN_PATH:
            await self._append(request)
        return await handler(request)

    async def _append(self, request: web.Request) -> None:
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers]
        entry: dict[str, Any] = {"method": request.method, "path": request.raw_path, "headers": headers, "body": None}
        # Before the body is read: that a request began to arrive is worth knowing even when its body never ends.
        self._requests.append(entry)
        entry["body"] = _body(await request.read())

    async def show(self, _request: web.Request) -> web.Response:
        return web.json_response(list(self._requests))

    async def clear(self, _request: web.Request) -> web.Response:
        self._requests.clear()
        return web.Response(status=204)


def _body(data: bytes) -> object:
    if len(data) > _SEEN_BODY_BYTES:
        return {"omitted_bytes": len(data)}
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")


def _guarded(handler: Handler, accepts: Callable[[str], bool]) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return _github_error(401, "Requires authentication")
        if not accepts(authorization):
            return _github_error(401, "Bad credentials")
        return await handler(request)

    return guarded


async def _ping(_request: web.Request) -> web.Response:
    return web.Response(text="pong")


async def _not_found(_request: web.Request) -> web.Response:
    return _github_error(404, "Not Found")


def _github_error(status: int, message: str) -> web.Response:
    body = {"message": message, "documentation_url": _DOCUMENTATION, "status": str(status)}
    return web.json_response(body, status=status)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    request_id = uuid.uuid4()
    response.headers["x-request-id"] = str(request_id)
    response.headers["x-github-request-id"] = f"DEMO:{request_id.hex[:12].upper()}"
    # A credential by its meaning: the gateway must strip it.
    response.headers["copilot-edits-session"] = f"demo-{request_id.hex[12:24]}"
