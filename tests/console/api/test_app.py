"""Who may do what at all, and what every request has in common."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extproc.console.api.routes import BASE, OPENAPI, ROUTES
from extproc.dev.users import DEMO_USERS
from tests.console.api.conftest import Api
from tests.console.api.schema import faults
from tests.console.api.serving import SECRET, token

LIST = "/approvals"

EVERYBODY = {"alice": 200, "bob": 200, "carol": 200, "dave": 200, "mallory": 200}
VIEWERS = {**EVERYBODY, "mallory": 403}
READERS = {**VIEWERS, "dave": 403}
# Of what is alice's: to bob it is as if there were nothing.
OF_ALICE = {**READERS, "bob": 404}
APPROVERS = {**READERS, "alice": 403, "carol": 403}
OPERATORS = {**EVERYBODY, "alice": 403, "bob": 403, "mallory": 403}

TRACE = {"targets": [{"path": "a.py", "numbers": [1], "lines": ["nothing that was proposed"], "wanted": [1]}]}

TABLE: dict[tuple[str, str], tuple[str, dict[str, Any] | None, dict[str, int]]] = {
    ("GET", "/me"): ("/me", None, EVERYBODY),
    ("GET", "/overview"): ("/overview?span=1h", None, VIEWERS),
    ("GET", "/sessions"): ("/sessions", None, READERS),
    ("GET", "/sessions/{id}"): ("/sessions/s1", None, OF_ALICE),
    ("GET", "/exchanges/{id}"): ("/exchanges/x1", None, OF_ALICE),
    ("GET", "/exchanges/{id}/receipt"): ("/exchanges/x1/receipt", None, OF_ALICE),
    ("GET", "/findings"): ("/findings", None, READERS),
    ("POST", "/findings/match"): ("/findings/match", {"secret": SECRET}, READERS),
    ("POST", "/trace"): ("/trace", TRACE, READERS),
    ("GET", "/approvals"): ("/approvals", None, READERS),
    ("GET", "/approvals/{id}"): ("/approvals/a1", None, READERS),
    ("POST", "/approvals/{id}/approve"): ("/approvals/a1/approve", {"reason": "fine"}, APPROVERS),
    ("POST", "/approvals/{id}/deny"): ("/approvals/a1/deny", {"reason": "no"}, APPROVERS),
    ("GET", "/configuration"): ("/configuration", None, OPERATORS),
}


def test_the_table_of_this_test_has_every_route() -> None:
    assert list(TABLE) == [(one.method, one.path) for one in ROUTES]
    assert all(expected.keys() == DEMO_USERS.keys() for _, _, expected in TABLE.values())


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
async def test_each_demo_user_gets_what_their_roles_allow_as_it_is_described(api: Api, route: Any) -> None:
    path, body, expected = TABLE[route.method, route.path]
    document = await api.get(OPENAPI)
    responses = document["paths"][BASE + route.path][route.method.lower()]["responses"]
    for user, status in expected.items():
        await api.ask(f"a-{user}", principal=f"{api.issuer}#alice", name="alice")
        options = {} if body is None else {"json": body}
        told, answer = await api.call(route.method, path.replace("a1", f"a-{user}"), user, **options)
        assert told == status, (user, answer)
        schema = responses[str(status)]["content"]["application/json"]["schema"]
        assert list(faults(answer, schema, document)) == []
        if status == 403:
            assert answer["error"]["code"] == "role"
        unknown, _ = await api.call(route.method, path.partition("?")[0] + "?frob=1", user, **options)
        assert unknown == (403 if status == 403 else 422)
    assert (await api.call(route.method, path, None))[0] == 401


@pytest.mark.parametrize("path", [LIST, f"{LIST}/a1", "/nothing", "/api/v1/nothing", f"{OPENAPI}/"])
async def test_every_path_needs_a_token(api: Api, path: str) -> None:
    status, body = await api.call("GET", path, None)
    assert (status, body["error"]["code"]) == (401, "identity.missing")


@pytest.mark.parametrize("scheme", ["token", "Basic"])
async def test_only_a_bearer_token_counts(api: Api, scheme: str) -> None:
    for headers in (
        {"authorization": f"{scheme} {token(api.state, 'bob')}"},
        {"authorization": f"Bearer {token(api.state, 'bob', now=time.time() - 7200)}"},
        {"authorization": f"Bearer {token(api.state, 'bob')[:-8]}AAAAAAAA"},
        {"x-api-key": token(api.state, "bob")},
        {"cookie": f"session={token(api.state, 'bob')}"},
    ):
        status, body = await api.call("GET", LIST, None, headers=headers)
        assert status == 401
        assert body["error"]["code"].startswith("identity.")


async def test_unknown_paths_and_methods_are_told_in_the_same_form(api: Api) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", f"{LIST}/", 404), ("DELETE", LIST, 405)):
        told, body = await api.call(method, path)
        assert (told, body["error"]["code"]) == (status, "request")


@pytest.mark.parametrize(
    "query",
    [
        *("/approvals?state=maybe", "/approvals?limit=0", "/approvals?limit=501", "/approvals?limit=many"),
        *("/approvals?stat=pending", "/approvals?limit=1&limit=2", "/approvals?state=null", "/sessions?outcome=null"),
        *("/sessions?since=yesterday", "/sessions?until=999999999d9", "/sessions?after=nowhere", "/sessions?user=a&x="),
        *("/sessions/s1?start=-1", "/sessions/s1?limit=201", "/sessions/s1?start=x", "/exchanges/x1?body=true"),
        f"/sessions/s1?start={10**30}",
        *("/exchanges/x1/receipt?body=perhaps", "/findings?direction=up", "/findings?action=null"),
        *("/findings?after=nowhere", "/overview?span=1", "/overview?span=91d", "/overview?span=59s", "/me?x=1"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(api: Api, query: str) -> None:
    status, body = await api.call("GET", query)
    assert (status, body["error"]["code"]) == (422, "query")
