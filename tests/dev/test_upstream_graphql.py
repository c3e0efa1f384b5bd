from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from extproc.dev import upstream_graphql
from extproc.dev.upstream_graphql import graphql


@pytest.fixture
async def upstream() -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.add_routes([web.post("/graphql", graphql)])
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _ask(upstream: TestClient[Any, Any], body: Any) -> tuple[int, Any]:
    response = await upstream.post("/graphql", json=body)
    return response.status, await response.json()


async def test_a_query_gets_exactly_the_selected_fields(upstream: TestClient[Any, Any]) -> None:
    query = """query Q($o: String!) { # which
      viewer { login } repository(owner: $o, name: "a(b)") { name, issues(first: 1) { nodes { title } } } }"""
    status, answer = await _ask(upstream, {"query": query, "variables": {"o": "demo"}})
    assert status == 200
    repository = {"name": "app", "issues": {"nodes": [{"title": "Demo issue"}]}}
    assert answer == {"data": {"viewer": {"login": "demo-gateway"}, "repository": repository}}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mutation { close }", "serves no mutation"),
        ("{ viewer", "no end"),
        ("{ viewer { login } } }", "Parse error"),
        ("{ viewer }", "must have selections"),
        ("{ viewer { login { x } } }", "scalars"),
        ("{ nobody }", "doesn't exist"),
        ("{ viewer { ? } }", "Parse error"),
        ("", "expected a selection"),
        ("{viewer" * 50, "expected a selection"),
    ],
)
async def test_a_query_that_is_wrong_is_an_error_in_an_answer_of_200(
    upstream: TestClient[Any, Any], query: str, message: str
) -> None:
    status, answer = await _ask(upstream, {"query": query})
    assert status == 200
    assert message in answer["errors"][0]["message"]


@pytest.mark.parametrize("body", [None, [], {}, {"query": 1}])
async def test_what_is_no_graphql_request_is_400(upstream: TestClient[Any, Any], body: Any) -> None:
    assert (await _ask(upstream, body))[0] == 400


@given(st.text(alphabet='{}()$"# ,\n:vieweroginquy1', max_size=40))
def test_no_query_breaks_the_parser(query: str) -> None:
    with contextlib.suppress(upstream_graphql._Fault):
        assert upstream_graphql._parsed(query)
