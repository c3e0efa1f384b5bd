from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from extproc.approval.approval import Scope
from extproc.console.api.route import MAX_BODY_BYTES
from tests.approving import rule
from tests.console.api.conftest import Api
from tests.console.api.serving import serving, token

LIST = "/approvals"


async def ids(api: Api, query: str = "", user: str = "bob") -> list[str]:
    return [row["id"] for row in (await api.get(LIST + query, user))["approvals"]]


# --- seeing ----------------------------------------------------------------------------------------------------------


async def test_approvers_see_what_they_may_approve_and_others_only_what_they_asked_for(api: Api) -> None:
    await api.ask("a1", principal=f"{api.issuer}#alice", name="alice")
    await api.ask("a2", rule=rule(approvers=frozenset({"admins"})))
    await api.ask("a3", principal=f"{api.issuer}#bob", name="bob", rule=rule(approvers=frozenset({"admins"})))
    assert await ids(api) == ["a3", "a1"]
    assert await ids(api, user="alice") == ["a1"]
    assert await ids(api, "?user=alice") == ["a1"]
    assert await ids(api, "?user=bob") == ["a3"]
    assert await ids(api, "?limit=1") == ["a3"]
    assert await ids(api, "?state=denied") == []
    assert await ids(api, "?state=pending") == ["a3", "a1"]


async def test_auditors_see_everything_and_answer_nothing(api: Api) -> None:
    await api.ask("a1", rule=rule(approvers=frozenset({"admins"})))
    await api.ask("a2")
    assert await ids(api, user="carol") == ["a2", "a1"]
    assert (await api.get(f"{LIST}/a1", "carol"))["id"] == "a1"
    for verdict in ("approve", "deny"):
        status, body = await api.call("POST", f"{LIST}/a2/{verdict}", "carol", json={"reason": "no"})
        assert (status, body["error"]["code"]) == (403, "role")
    assert (await api.get(f"{LIST}/a2", "carol"))["state"] == "pending"


async def test_a_name_that_is_the_id_of_somebody_else_shows_them_nothing(api: Api) -> None:
    await api.ask("a1", principal="issuer#eve", name=f"{api.issuer}#alice")
    assert await ids(api, user="alice") == []


async def test_who_looks_sees_the_proposal_and_is_recorded_with_the_address(api: Api) -> None:
    await api.ask("a1", proposal='[{"name":"edit"}]')
    status, body = await api.call("GET", f"{LIST}/a1", headers={"x-forwarded-for": "203.0.113.9"})
    assert status == 200
    assert (body["id"], body["state"], body["user"]) == ("a1", "pending", "alice")
    assert body["proposal"] == '[{"name":"edit"}]'
    assert [one["kind"] for one in body["events"]] == ["requested", "viewed"]
    viewed = (await api.store.events("a1"))[-1]
    assert (viewed.who, viewed.name, viewed.address) == (f"{api.issuer}#bob", "bob", "127.0.0.1")


async def test_what_one_may_not_see_is_as_unknown_and_not_recorded_as_viewed(api: Api) -> None:
    await api.ask("a1")
    unseen = await api.call("GET", f"{LIST}/a1", "alice")
    assert unseen == await api.call("GET", f"{LIST}/a2")
    assert (unseen[0], unseen[1]["error"]["code"]) == (404, "unknown")
    assert len(await api.store.events("a1")) == 1


# --- answering -------------------------------------------------------------------------------------------------------


async def test_an_approver_approves(api: Api) -> None:
    await api.ask("a1", rule=rule(scopes=(Scope.ONCE, Scope.SESSION)))
    told = {"reason": "reviewed", "scope": "session"}
    status, body = await api.call("POST", f"{LIST}/a1/approve", json=told)
    assert (status, body["state"]) == (200, "approved")
    (verdict,) = body["verdicts"]
    assert (verdict["approver"], verdict["reason"], verdict["scope"]) == (f"{api.issuer}#bob", "reviewed", "session")
    assert verdict["address"] == "127.0.0.1"


async def test_a_denial_needs_a_reason(api: Api) -> None:
    await api.ask("a1")
    for body in ({}, {"reason": "  "}):
        status, answer = await api.call("POST", f"{LIST}/a1/deny", json=body)
        assert (status, answer["error"]["code"]) == (422, "body")
        assert "reason" in answer["error"]["message"]
    status, answer = await api.call("POST", f"{LIST}/a1/deny", json={"reason": "not on Fridays"})
    assert (status, answer["state"]) == (200, "denied")


async def test_a_verdict_that_is_not_accepted_says_why(api: Api) -> None:
    await api.ask("a1")
    await api.ask("own", principal=f"{api.issuer}#bob", name="bob")
    await api.ask("others", rule=rule(approvers=frozenset({"admins"})))
    await api.ask("two", rule=rule(count=2))
    await api.ask("old", expires_at=1.0)
    await api.call("POST", f"{LIST}/two/approve", json={})
    for approval, scope, status, code in (
        ("others", "once", 404, "unknown"),
        ("own", "once", 403, "own_request"),
        ("two", "once", 409, "twice"),
        ("old", "once", 409, "ended"),
        ("a1", "window", 422, "scope"),
        ("a1", "for ever", 422, "body"),
        ("none", "once", 404, "unknown"),
    ):
        told, body = await api.call("POST", f"{LIST}/{approval}/approve", json={"scope": scope})
        assert (told, body["error"]["code"]) == (status, code)
        assert body["error"]["message"]
    assert len(await api.store.events("a1")) == 1


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
async def test_a_body_that_is_not_understood_is_refused_and_changes_nothing(api: Api, body: bytes, status: int) -> None:
    await api.ask("a1")
    told, answer = await api.call("POST", f"{LIST}/a1/approve", data=body)
    assert (told, answer["error"]["code"]) == (status, "body")
    assert len(await api.store.events("a1")) == 1


async def test_a_store_that_fails_is_503(state: Path) -> None:
    with serving(state) as url:
        headers = {"authorization": f"Bearer {token(state, 'bob')}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for method, path in (("GET", ""), ("GET", "/a1"), ("POST", "/a1/approve")):
                async with session.request(method, f"{url}/api/v1{LIST}{path}", json={}) as answer:
                    assert answer.status == 503
                    body = await answer.json()
                assert body["error"]["code"] == "store"
                assert str(state) not in body["error"]["message"]
