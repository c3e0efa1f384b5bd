from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream_models import models, no_web_socket


@pytest.fixture
async def upstream() -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.add_routes([web.get("/models", models), web.get("/responses", no_web_socket)])
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def test_models_have_what_clients_need(upstream: TestClient[Any, Any]) -> None:
    *chosen, ghost = (await (await upstream.get("/models")).json())["data"]
    endpoints = {model["id"]: model["supported_endpoints"] for model in chosen}
    assert endpoints["gpt-5"] == ["/chat/completions", "/responses", "ws:/responses"]
    assert endpoints["claude-sonnet-4.5"] == ["/chat/completions", "/v1/messages"]
    assert {"gpt-5-mini", "gpt-4.1", "gemini-2.5-pro"} < set(endpoints)
    for model in chosen:
        assert model["capabilities"]["limits"]["max_output_tokens"] >= 64000
        assert model["policy"]["state"] == "enabled"
        assert model["model_picker_enabled"] is True
        assert model["capabilities"]["type"] == "chat"
    assert (ghost["id"], ghost["capabilities"]["type"]) == ("gpt-41-copilot", "completion")
    assert ghost["model_picker_enabled"] is False


async def test_each_format_has_a_model_that_copilot_cli_knows(upstream: TestClient[Any, Any]) -> None:
    listed = (await (await upstream.get("/models")).json())["data"]
    endpoints = {model["id"]: model["supported_endpoints"] for model in listed}
    assert "/v1/messages" in endpoints["claude-sonnet-4.6"]
    assert endpoints["gpt-5.5"] == ["/responses", "ws:/responses"]
    assert endpoints["gemini-3.8-flash"] == ["/chat/completions"]


async def test_the_web_socket_that_models_list_is_refused_with_a_status_at_which_clients_fall_back(
    upstream: TestClient[Any, Any],
) -> None:
    assert (await upstream.get("/responses")).status == 426
