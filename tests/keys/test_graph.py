from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.errors import Code, ConfigError, Refused
from extproc.keys.graph import Graph, GraphLimits
from extproc.secret import Secret

TENANT = "11111111-2222-3333-4444-555555555555"
USER = "aaaaaaaa-2222-3333-4444-555555555555"


class Microsoft:
    """The token endpoint and Graph on the loopback."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.url = ""
        self.token_answer: dict[str, object] = {"access_token": "app-token", "expires_in": 3600}
        self.token_status = 200
        self.status = 200
        self.pages: list[dict[str, object]] = [{"value": ["g1", "g2"]}]
        self.forms: list[dict[str, object]] = []
        self.requests: list[tuple[str, str, str]] = []
        self.bodies: list[object] = []

    async def token(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))
        return web.json_response(self.token_answer, status=self.token_status)

    async def graph(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path, request.headers.get("Authorization", "")))
        if request.method == "POST":
            self.bodies.append(await request.json())
        return web.json_response(self.pages[int(request.query.get("page", "0"))], status=self.status)


@pytest.fixture
async def microsoft() -> AsyncIterator[Microsoft]:
    fake = Microsoft()
    app = web.Application()
    app.router.add_post(f"/{TENANT}/oauth2/v2.0/token", fake.token)
    app.router.add_route("*", "/v1.0/users/{oid}/getMemberObjects", fake.graph)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest.fixture
async def graph(microsoft: Microsoft) -> AsyncIterator[Graph]:
    async with aiohttp.ClientSession() as session:
        yield Graph(
            client_id="gateway",
            client_secret=Secret("client-secret"),
            session=session,
            now=lambda: microsoft.now,
            graph_base=microsoft.url,
            login_base=microsoft.url,
            limits=GraphLimits(entries=2),
        )


async def assert_unavailable(graph: Graph, tenant: str = TENANT, user: str = USER) -> None:
    with pytest.raises(Refused) as caught:
        await graph.groups(tenant, user)
    assert (caught.value.refusal.status, caught.value.refusal.code) == (503, Code.IDENTITY_GROUPS_UNAVAILABLE)
    assert "token" not in str(caught.value)
    assert "client-secret" not in str(caught.value)


async def test_groups_are_asked_for_with_the_applications_own_token(microsoft: Microsoft, graph: Graph) -> None:
    assert await graph.groups(TENANT, USER) == {"g1", "g2"}
    assert microsoft.requests == [("POST", f"/v1.0/users/{USER}/getMemberObjects", "Bearer app-token")]
    assert microsoft.bodies == [{"securityEnabledOnly": False}]
    assert microsoft.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": "gateway",
            "client_secret": "client-secret",
            "scope": f"{microsoft.url}/.default",
        }
    ]


async def test_groups_are_kept_for_five_minutes_and_the_token_until_it_expires(
    microsoft: Microsoft, graph: Graph
) -> None:
    await graph.groups(TENANT, USER)
    microsoft.now += 299
    microsoft.pages = [{"value": ["g3"]}]
    assert await graph.groups(TENANT, USER) == {"g1", "g2"}
    microsoft.now += 1
    assert await graph.groups(TENANT, USER) == {"g3"}
    assert (len(microsoft.requests), len(microsoft.forms)) == (2, 1)
    microsoft.now += 3540
    await graph.groups(TENANT, USER)
    assert len(microsoft.forms) == 2


async def test_the_groups_of_one_user_are_not_anothers_and_the_memory_is_bounded(
    microsoft: Microsoft, graph: Graph
) -> None:
    await graph.groups(TENANT, USER)
    microsoft.pages = [{"value": []}]
    assert await graph.groups(TENANT, "b") == frozenset()
    await graph.groups(TENANT, "c")
    await graph.groups(TENANT, USER)
    assert len(microsoft.requests) == 4


async def test_all_pages_are_read(microsoft: Microsoft, graph: Graph) -> None:
    link = f"{microsoft.url}/v1.0/users/{USER}/getMemberObjects?page="
    microsoft.pages = [
        {"value": ["g1"], "@odata.nextLink": f"{link}1"},
        {"value": [], "@odata.nextLink": f"{link}2"},
        {"value": ["g2"]},
    ]
    assert await graph.groups(TENANT, USER) == {"g1", "g2"}
    assert [method for method, _, _ in microsoft.requests] == ["POST", "GET", "GET"]


async def test_pages_without_end_are_given_up(microsoft: Microsoft, graph: Graph) -> None:
    microsoft.pages = [
        {"value": ["g"], "@odata.nextLink": f"{microsoft.url}/v1.0/users/{USER}/getMemberObjects?page=0"}
    ]
    await assert_unavailable(graph)
    assert len(microsoft.requests) == 51


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/next", "https://graph.evil.example/", "/relative", "", 7, "http://["]
)
async def test_a_next_page_at_another_origin_is_not_asked_for(microsoft: Microsoft, graph: Graph, link: object) -> None:
    microsoft.pages = [{"value": ["g"], "@odata.nextLink": link}]
    await assert_unavailable(graph)
    assert len(microsoft.requests) == 1


async def test_the_token_is_not_sent_to_credentials_hidden_in_a_link(microsoft: Microsoft, graph: Graph) -> None:
    microsoft.pages = [{"value": ["g"], "@odata.nextLink": microsoft.url.replace("//", "//user@") + "/x"}]
    await assert_unavailable(graph)
    assert len(microsoft.requests) == 1


@pytest.mark.parametrize("page", [{}, {"value": None}, {"value": ["g", 1]}, {"value": "g"}, {"error": {"code": "x"}}])
async def test_an_answer_without_a_list_of_ids_is_never_no_groups(
    microsoft: Microsoft, graph: Graph, page: dict[str, object]
) -> None:
    microsoft.pages = [page]
    await assert_unavailable(graph)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_a_failing_graph_is_asked_again_by_the_next_caller_with_a_new_token(
    microsoft: Microsoft, graph: Graph, status: int
) -> None:
    microsoft.status = status
    await assert_unavailable(graph)
    microsoft.status = 200
    assert await graph.groups(TENANT, USER) == {"g1", "g2"}
    assert len(microsoft.forms) == 2


@pytest.mark.parametrize(
    "answer",
    [{}, {"access_token": 1, "expires_in": 1}, {"access_token": "t"}, {"access_token": "t\n", "expires_in": 1}],
)
async def test_a_token_endpoint_that_gives_no_token_makes_groups_unavailable(
    microsoft: Microsoft, graph: Graph, answer: dict[str, object]
) -> None:
    microsoft.token_answer = answer
    await assert_unavailable(graph)
    assert microsoft.requests == []


async def test_a_refused_client_makes_groups_unavailable(microsoft: Microsoft, graph: Graph) -> None:
    microsoft.token_status = 401
    await assert_unavailable(graph)


async def test_ids_that_would_change_the_address_are_not_sent(microsoft: Microsoft, graph: Graph) -> None:
    await assert_unavailable(graph, user="../me")
    await assert_unavailable(graph, tenant="../common")
    assert (microsoft.forms, microsoft.requests) == ([], [])


@pytest.mark.parametrize(
    ("graph_base", "login_base"),
    [("http://graph.example", "https://login.example"), ("https://graph.example", "http://login.example")],
)
async def test_the_client_secret_and_the_token_are_only_sent_over_https(graph_base: str, login_base: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match="https"):
            Graph(
                client_id="x",
                client_secret=Secret("y"),
                session=session,
                now=lambda: 0.0,
                graph_base=graph_base,
                login_base=login_base,
            )
