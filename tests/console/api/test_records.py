from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from extproc.recording import receipt as receipts
from tests.console.api.conftest import Api
from tests.console.api.serving import CODE, OTHER_CODE, SECRET, accesses, token
from tests.evidence import SIGNER


async def session_ids(api: Api, query: str = "", user: str = "carol") -> list[str]:
    return [row["id"] for row in (await api.get(f"/sessions{query}", user))["sessions"]]


def target(code: str, **changes: Any) -> dict[str, Any]:
    lines = code.splitlines()
    numbers = list(range(1, len(lines) + 1))
    return {"path": "src/a.py", "numbers": numbers, "lines": lines, "wanted": numbers, **changes}


# --- Sessions and exchanges ------------------------------------------------------------------------------------------


async def test_sessions_are_ones_own_and_everybodys_for_auditors(api: Api) -> None:
    assert await session_ids(api) == ["s4", "s2", "s3", "s1"]
    assert await session_ids(api, user="alice") == ["s2", "s1"]
    assert await session_ids(api, user="bob") == ["s4", "s3"]
    assert await session_ids(api, "?user=alice", user="bob") == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?user=alice", ["s2", "s1"]),
        ("?finding=npm-*", ["s3", "s1"]),
        ("?outcome=failed", []),
        ("?session=s3", ["s3"]),
        ("?repository=acme/*&model=gpt-5&group=developers&session=s1", ["s1"]),
        ("?path=nothing", []),
        ("?since=1h&session=s2", ["s2"]),
        ("?until=1h", []),
        ("?since=2020-01-01&until=2020-01-02T10:00", []),
        ("?text=mean_of", ["s2"]),
    ],
)
async def test_sessions_are_filtered(api: Api, query: str, found: list[str]) -> None:
    assert await session_ids(api, query) == found


async def test_sessions_come_in_pages(api: Api) -> None:
    first = await api.get("/sessions?limit=3", "carol")
    assert first["after"] is not None
    second = await api.get(f"/sessions?limit=3&after={first['after']}", "carol")
    assert [len(first["sessions"]), len(second["sessions"])] == [3, 1]
    assert second["after"] is None


async def test_a_session_is_read_in_parts_and_each_reading_is_recorded(api: Api) -> None:
    first = await api.get("/sessions/s1?limit=1")
    assert (first["session"], first["start"], first["more"]) == ("s1", 0, True)
    second = await api.get("/sessions/s1?start=1")
    assert [second["documents"][0]["id"], second["more"]] == ["x2", False]
    heads = accesses(api.state)
    assert {head.facts["by"] for head in heads} == {f"{api.issuer}#alice"}
    assert [(head.facts["action"], head.facts["target"], head.facts["exchanges"]) for head in heads] == [
        ("replay", "s1", 1),
        ("replay", "s1", 1),
    ]


@pytest.mark.parametrize("path", ["/sessions/{}", "/exchanges/{}", "/exchanges/{}/receipt"])
async def test_what_is_somebody_elses_is_as_unknown_and_no_reading(api: Api, path: str) -> None:
    theirs = "s3" if "sessions" in path else "x3"
    status, body = await api.call("GET", path.format(theirs), "alice")
    unknown, told = await api.call("GET", path.format("zz"), "alice")
    assert (status, unknown) == (404, 404)
    assert body["error"]["message"].replace(theirs, "zz") == told["error"]["message"]
    assert body["error"]["code"] == told["error"]["code"] == "unknown"
    assert accesses(api.state) == []


async def test_an_exchange_is_read_and_that_is_recorded(api: Api) -> None:
    document = await api.get("/exchanges/x1", "carol")
    assert (document["id"], document["response"]["text"]) == ("x1", "Hello")
    (head,) = accesses(api.state)
    assert (head.facts["action"], head.facts["target"], head.facts["name"]) == ("show", "x1", "carol")


@pytest.mark.parametrize("path", ["/sessions/s1", "/exchanges/x1", "/exchanges/x1/receipt?body=1", "/sessions?text=a"])
async def test_what_cannot_be_recorded_is_not_shown(api: Api, path: str) -> None:
    (api.state / "spool").write_text("no folder")
    status, body = await api.call("GET", path, "alice")
    assert (status, body["error"]["code"]) == (503, "store")
    assert str(api.state) not in body["error"]["message"]


async def test_a_receipt_proves_the_exchange(api: Api) -> None:
    for query, has_body in (("", False), ("?body=true", True)):
        url = f"{api.url}/api/v1/exchanges/x1/receipt{query}"
        headers = {"authorization": f"Bearer {token(api.state, 'alice')}"}
        async with api.session.get(url, headers=headers) as answer:
            proved = receipts.check(await answer.read(), [SIGNER.public])
        assert (proved.head.id, proved.body is not None) == ("x1", has_body)
    (head,) = accesses(api.state)
    assert (head.facts["action"], head.facts["exchange"]) == ("receipt", "x1")


async def test_what_is_not_proven_has_no_receipt(api: Api) -> None:
    status, body = await api.call("GET", "/exchanges/x4/receipt", "alice")
    assert (status, body["error"]["code"]) == (409, "unproven")
    assert "no valid checkpoint covers entry 0" in body["error"]["message"]


# --- Findings --------------------------------------------------------------------------------------------------------


async def test_findings_are_ones_own_and_everybodys_for_auditors(api: Api) -> None:
    for user, found in (("alice", ["x1"]), ("bob", ["x3"]), ("carol", ["x3", "x1"])):
        listed = await api.get("/findings?rule=npm-*&direction=prompt&action=mask&since=1h", user)
        assert [row["exchange"] for row in listed["findings"]] == found
        status, matched = await api.call("POST", "/findings/match", user, json={"secret": SECRET})
        assert (status, [row["exchange"] for row in matched["findings"]]) == (200, found)
    assert (await api.get("/findings?session=s3", "alice"))["findings"] == []
    assert (await api.get("/findings?user=bob&limit=1", "carol"))["findings"][0]["exchange"] == "x3"
    assert (await api.call("POST", "/findings/match", "carol", json={"secret": "other"}))[1]["findings"] == []


async def test_matches_come_in_pages(api: Api) -> None:
    _, first = await api.call("POST", "/findings/match", "carol", json={"secret": SECRET, "limit": 1})
    after = {"secret": SECRET, "limit": 1, "after": first["after"]}
    _, second = await api.call("POST", "/findings/match", "carol", json=after)
    assert [page["findings"][0]["exchange"] for page in (first, second)] == ["x3", "x1"]
    assert second["after"] is None
    status, body = await api.call("POST", "/findings/match", "carol", json={**after, "after": "nowhere"})
    assert (status, body["error"]["code"]) == (422, "query")


async def test_a_fault_in_a_body_with_a_secret_does_not_tell_it(api: Api) -> None:
    status, body = await api.call("POST", "/findings/match", "alice", json={"secret": [SECRET]})
    assert status == 422
    assert SECRET not in str(body)


# --- Tracing ---------------------------------------------------------------------------------------------------------


async def test_lines_are_traced_to_suggestions_of_ones_own_and_that_is_recorded(api: Api) -> None:
    for user, found in (("alice", ["x4"]), ("bob", ["x5"]), ("carol", ["x4", "x5"])):
        asked = {"targets": [target(CODE), target(OTHER_CODE, path="src/b.py")]}
        status, body = await api.call("POST", "/trace", user, json=asked)
        assert (status, [one["source"]["exchange"] for one in body["ranges"]]) == (200, found)
    first = (await api.call("POST", "/trace", "alice", json={"targets": [target(CODE)], "before": 1.0}))[1]["ranges"][0]
    assert (first["path"], first["start"], first["end"], first["is_later"]) == ("src/a.py", 1, 6, True)
    assert [head.facts["action"] for head in accesses(api.state)] == ["trace"] * 4


@pytest.mark.parametrize(
    "targets",
    [
        [target(CODE, numbers=[1])],
        [target(CODE, numbers=[1, 2, 2, 3, 4, 5])],
        [target(CODE, numbers=[0, 1, 2, 3, 4, 5])],
        [target(CODE, wanted=["x"])],
        [{"path": "a"}],
        "all",
    ],
)
async def test_lines_that_are_none_of_a_file_are_refused(api: Api, targets: Any) -> None:
    status, body = await api.call("POST", "/trace", "alice", json={"targets": targets})
    assert (status, body["error"]["code"]) == (422, "body")
    assert accesses(api.state) == []


async def test_more_can_be_traced_than_other_bodies_hold_but_not_everything(api: Api) -> None:
    lines = ["x" * 1000] * 1000
    long = target("", lines=lines, numbers=list(range(1, 1001)), wanted=[1])
    assert (await api.call("POST", "/trace", "alice", json={"targets": [long]}))[0] == 200
    status, body = await api.call("POST", "/trace", "alice", data=BytesIO(json.dumps({"targets": [long] * 9}).encode()))
    assert (status, body["error"]["code"]) == (413, "body")
