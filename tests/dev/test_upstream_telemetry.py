from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream import make_app


@pytest.fixture
async def upstream() -> AsyncIterator[TestClient[Any, Any]]:
    app = make_app(set, delay_seconds=0, now=lambda: 1_800_000_000.0)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def test_experiments_have_the_configs_without_which_the_language_server_asks_for_ever(
    upstream: TestClient[Any, Any],
) -> None:
    response = await upstream.get("/telemetry")
    assert response.status == 200
    [config] = (await response.json())["Configs"]
    assert config == {"Id": "vscode", "Parameters": {}}


async def test_reports_are_accepted_without_a_credential_and_compressed(upstream: TestClient[Any, Any]) -> None:
    body = gzip.compress(b'{"name":"a"}\n{"name":"b"}\n')
    response = await upstream.post("/telemetry", data=body, headers={"Content-Encoding": "gzip"})
    assert response.status == 200
    assert await response.json() == {"itemsReceived": 2, "itemsAccepted": 2, "errors": []}
    assert "x-github-request-id" in response.headers
