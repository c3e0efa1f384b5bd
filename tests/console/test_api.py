from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from extproc import config as config_file
from extproc.approval.approval import Request, Scope
from extproc.commands.console import server_of
from extproc.console.api import MAX_BODY_BYTES, make_app
from extproc.dev import files, keys
from extproc.dev.idp import make_app as make_issuer
from extproc.dev.users import DEMO_USERS
from extproc.errors import StoreUnavailable
from extproc.identities import verifier_of
from extproc.store.approvals_port import Answers
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import request, rule

LIST = "/api/v1/approvals"


class Console:
    """The API on a port of its own, the store it reads, and a client."""

    def __init__(self, state: Path, url: str, store: SqliteApprovals, session: aiohttp.ClientSession) -> None:
        self.state = state
        self.url = url
        self.store = store
        self.session = session
        self.issuer = files.ports_of(state).issuer_url

    async def add(self, approval_id: str, **changes: Any) -> Request:
        now = time.time()
        one = request(approval_id, **{"requested_at": now, "expires_at": now + 900, **changes})
        await self.store.request(one)
        return one

    def token(self, user: str, groups: tuple[str, ...] | None = None, **changes: Any) -> str:
        names = DEMO_USERS[user] if groups is None else groups
        return keys.token_for(self.state, user, names, **{"now": time.time(), **changes})

    async def call(self, method: str, path: str, user: str | None = "bob", **options: Any) -> tuple[int, Any]:
        headers = {} if user is None else {"authorization": f"Bearer {self.token(user)}"}
        headers |= options.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert ("www-authenticate" in answer.headers) is (answer.status == 401)
            return answer.status, await answer.json()

    async def ids(self, query: str = "", user: str = "bob") -> list[str]:
        status, body = await self.call("GET", LIST + query, user)
        assert status == 200
        return [row["id"] for row in body["approvals"]]

    async def post(self, path: str, user: str = "bob", **body: Any) -> tuple[int, Any]:
        return await self.call("POST", f"{LIST}/{path}", user, json=body)


@asynccontextmanager
async def serving(state: Path, store: Callable[[], Answers]) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    async with verifier_of(config_file.load(state / "gateway.yaml"), time.time) as verifier:
        app = make_app(store, verifier, time.time)
        server = server_of(app)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.stop()
            await running
            listening.close()


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Path]:
    folder = tmp_path / "state"
    listening = socket.create_server(("127.0.0.1", 0))
    ports = files.Ports(issuer=listening.getsockname()[1])
    files.prepare(folder, ports, "http://127.0.0.1:1", now=time.time())
    key = keys.load_or_create(folder / keys.KEY_FILE)
    app = make_issuer(key, issuer=ports.issuer_url, audience=files.AUDIENCE, users=DEMO_USERS, now=time.time)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    yield folder
    await runner.cleanup()


@pytest.fixture
async def console(state: Path) -> AsyncIterator[Console]:
    store = SqliteApprovals(state / "approvals.db", instance="gateway", now=time.time())
    async with serving(state, lambda: store) as url, aiohttp.ClientSession() as session:
        yield Console(state, url, store, session)
    await store.aclose()


# --- seeing ----------------------------------------------------------------------------------------------------------


async def test_approvers_see_what_they_may_approve_and_others_only_what_they_asked_for(console: Console) -> None:
    await console.add("a1", principal=f"{console.issuer}#alice", name="alice")
    await console.add("a2", rule=rule(approvers=frozenset({"admins"})))
    await console.add("a3", principal=f"{console.issuer}#bob", name="bob", rule=rule(approvers=frozenset({"admins"})))
    assert await console.ids() == ["a3", "a1"]
    assert await console.ids(user="alice") == ["a1"]
    assert await console.ids(user="dave") == ["a3", "a2"]
    assert await console.ids(user="mallory") == []
    assert await console.ids("?user=alice") == ["a1"]
    assert await console.ids("?user=bob") == ["a3"]
    assert await console.ids("?limit=1") == ["a3"]
    assert await console.ids("?state=denied") == []
    assert await console.ids("?state=pending") == ["a3", "a1"]


async def test_a_name_that_is_the_id_of_somebody_else_shows_them_nothing(console: Console) -> None:
    await console.add("a1", principal="issuer#eve", name=f"{console.issuer}#alice")
    assert await console.ids(user="alice") == []


@pytest.mark.parametrize("query", ["state=maybe", "limit=0", "limit=501", "limit=many", "stat=pending"])
async def test_a_query_that_is_not_understood_is_refused(console: Console, query: str) -> None:
    status, body = await console.call("GET", f"{LIST}?{query}")
    assert (status, body["error"]["code"]) == (422, "query")


async def test_who_looks_sees_the_proposal_and_is_recorded_with_the_address(console: Console) -> None:
    await console.add("a1", proposal='[{"name":"edit"}]')
    forged = {"x-forwarded-for": "203.0.113.9"}
    status, body = await console.call("GET", f"{LIST}/a1", headers=forged)
    assert status == 200
    assert (body["id"], body["state"], body["user"]) == ("a1", "pending", "alice")
    assert body["proposal"] == '[{"name":"edit"}]'
    assert [one["kind"] for one in body["events"]] == ["requested", "viewed"]
    viewed = (await console.store.events("a1"))[-1]
    assert (viewed.who, viewed.name, viewed.address) == (f"{console.issuer}#bob", "bob", "127.0.0.1")


async def test_what_one_may_not_see_is_as_unknown_and_not_recorded_as_viewed(console: Console) -> None:
    await console.add("a1")
    unseen = await console.call("GET", f"{LIST}/a1", "mallory")
    assert unseen == await console.call("GET", f"{LIST}/a2")
    assert (unseen[0], unseen[1]["error"]["code"]) == (404, "unknown")
    assert len(await console.store.events("a1")) == 1


# --- answering -------------------------------------------------------------------------------------------------------


async def test_an_approver_approves(console: Console) -> None:
    await console.add("a1", rule=rule(scopes=(Scope.ONCE, Scope.SESSION)))
    status, body = await console.post("a1/approve", reason="reviewed", scope="session")
    assert (status, body["state"]) == (200, "approved")
    (verdict,) = body["verdicts"]
    assert (verdict["approver"], verdict["reason"], verdict["scope"]) == (
        f"{console.issuer}#bob",
        "reviewed",
        "session",
    )
    assert verdict["address"] == "127.0.0.1"


async def test_a_denial_needs_a_reason(console: Console) -> None:
    await console.add("a1")
    for body in ({}, {"reason": "  "}):
        status, answer = await console.post("a1/deny", **body)
        assert (status, answer["error"]["code"]) == (422, "body")
        assert "reason" in answer["error"]["message"]
    status, answer = await console.post("a1/deny", reason="not on Fridays")
    assert (status, answer["state"]) == (200, "denied")


async def test_a_verdict_that_is_not_accepted_says_why(console: Console) -> None:
    await console.add("a1")
    await console.add("own", principal=f"{console.issuer}#bob", name="bob")
    await console.add("two", rule=rule(count=2))
    await console.add("old", expires_at=1.0)
    await console.post("two/approve")
    for path, user, scope, status, code in (
        ("a1/approve", "mallory", "once", 403, "not_approver"),
        ("own/approve", "bob", "once", 403, "own_request"),
        ("two/approve", "bob", "once", 409, "twice"),
        ("old/approve", "bob", "once", 409, "ended"),
        ("a1/approve", "bob", "window", 422, "scope"),
        ("a1/approve", "bob", "for ever", 422, "body"),
        ("none/approve", "bob", "once", 404, "unknown"),
    ):
        told, body = await console.post(path, user, scope=scope)
        assert (told, body["error"]["code"]) == (status, code)
        assert body["error"]["message"]
    assert len(await console.store.events("a1")) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b'{"reason": 1}', 422),
        (b'{"reasons": "x"}', 422),
        (b'{"reason": "\xff"}', 422),
        (b'{"reason": "\\ud800"}', 422),
        (b"[" * 60_000, 422),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_a_body_that_is_not_understood_is_refused_and_changes_nothing(
    console: Console, body: bytes, status: int
) -> None:
    await console.add("a1")
    told, answer = await console.call("POST", f"{LIST}/a1/approve", data=body)
    assert (told, answer["error"]["code"]) == (status, "body")
    assert len(await console.store.events("a1")) == 1


# --- who asks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LIST, f"{LIST}/a1", "/nothing"])
async def test_every_path_needs_a_token(console: Console, path: str) -> None:
    status, body = await console.call("GET", path, None)
    assert (status, body["error"]["code"]) == (401, "identity.missing")


@pytest.mark.parametrize("scheme", ["token", "Basic"])
async def test_only_a_bearer_token_counts(console: Console, scheme: str) -> None:
    for headers in (
        {"authorization": f"{scheme} {console.token('bob')}"},
        {"authorization": f"Bearer {console.token('bob', now=time.time() - 7200)}"},
        {"authorization": f"Bearer {console.token('bob')[:-8]}AAAAAAAA"},
        {"x-api-key": console.token("bob")},
    ):
        status, body = await console.call("GET", LIST, None, headers=headers)
        assert status == 401
        assert body["error"]["code"].startswith("identity.")


async def test_unknown_paths_and_methods_are_told_in_the_same_form(console: Console) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", f"{LIST}/", 404), ("DELETE", LIST, 405)):
        told, body = await console.call(method, path)
        assert (told, body["error"]["code"]) == (status, "request")


async def test_a_store_that_fails_is_503(state: Path) -> None:
    def store() -> Answers:
        raise StoreUnavailable("there is no store at /somewhere")

    async with serving(state, store) as url, aiohttp.ClientSession() as session:
        headers = {"authorization": f"Bearer {keys.token_for(state, 'bob', ('approvers',), now=time.time())}"}
        for method, path in (("GET", LIST), ("GET", f"{LIST}/a1"), ("POST", f"{LIST}/a1/approve")):
            async with session.request(method, url + path, headers=headers, json={}) as answer:
                assert answer.status == 503
                body = await answer.json()
            assert body["error"]["code"] == "store"
            assert "/somewhere" not in body["error"]["message"]
