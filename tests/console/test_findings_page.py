from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from extproc.console.pages.findings import MAX_SECRET_CHARS, ROWS
from extproc.errors import ConfigError
from extproc.masking.fingerprint import Fingerprints
from extproc.store.port import FindingRow
from tests.console.desk import HOSTILE, Desk, is_inert, opened
from tests.recording_of import NOW, exchange

SECRET = "made-up-Secret-w\u00f6rd-1"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def found(rule: str = "npm-token", **changes: Any) -> dict[str, Any]:
    usual = {"direction": "prompt", "where": "messages[0].content", "offset": 4, "action": "mask", "at": 1.5}
    return {"rule": rule, **usual, "fingerprint": "0" * 32, **changes}


async def record(desk: Desk) -> None:
    await desk.record(
        exchange("e1", at=NOW, findings=[found(), found("aws-key", action="block", fingerprint="1" * 32)]),
        exchange("e2", at=NOW + 10, session="s2", user="bob", findings=[found(direction="answer")], repository="b/c"),
    )


def rows(html: str) -> list[tuple[str, str]]:
    """Return the link and the rule of each finding that is shown."""
    return re.findall(r'<tr data-href="([^"]+)">.*?<td data-label="rule"[^>]*>([^<]*)</td>', html, re.DOTALL)


async def rules(desk: Desk, query: str, user: str = "carol") -> list[str]:
    answer = await desk.get(f"/findings?{query}", user)
    assert answer.status_code == 200
    return sorted(rule for _, rule in rows(answer.text))


async def test_developers_see_their_own_and_auditors_everybodys(desk: Desk) -> None:
    await record(desk)
    seen = {user: rows((await desk.get("/findings", user)).text) for user in ("alice", "bob", "carol")}
    mine, others = (
        [("/sessions/s1#e1", "aws-key"), ("/sessions/s1#e1", "npm-token")],
        [("/sessions/s2#e2", "npm-token")],
    )
    assert {user: sorted(found) for user, found in seen.items()} == {
        "alice": mine,
        "bob": others,
        "carol": [*mine, *others],
    }
    html = (await desk.get("/findings?user=bob", "alice")).text
    assert rows(html) == []
    assert 'name="user"' not in html


@pytest.mark.parametrize(("user", "status"), [("dave", 403), ("mallory", 403), (None, 303)])
async def test_findings_are_for_developers_and_auditors(desk: Desk, user: str | None, status: int) -> None:
    assert (await desk.get("/findings", user)).status_code == status


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rule=aws-key", ["aws-key"]),
        ("rule=*key", ["aws-key"]),
        ("user=bob", ["npm-token"]),
        ("user=issuer%23alice", ["aws-key", "npm-token"]),
        ("direction=answer", ["npm-token"]),
        ("action=block", ["aws-key"]),
        ("session=s2", ["npm-token"]),
        ("since=2025-10-09T08:53:25", ["npm-token"]),
        ("until=2025-10-09T08:53:25", ["aws-key", "npm-token"]),
        ("since=55s", ["npm-token"]),
        (f"fingerprint={'1' * 32}", ["aws-key"]),
        ("rule=npm-token&user=alice&direction=&action=&since=", ["npm-token"]),
        ("rule=nothing", []),
    ],
)
async def test_every_filter_filters(desk: Desk, query: str, expected: list[str]) -> None:
    await record(desk)
    assert await rules(desk, query) == expected


async def test_what_was_asked_for_stays_in_the_form(desk: Desk) -> None:
    html = (await desk.get("/findings?rule=a%22b&action=block&since=7d", "carol")).text
    assert 'name="rule" value="a&#34;b"' in html
    assert "<option selected>block</option>" in html
    assert 'name="since" value="7d"' in html


@pytest.mark.parametrize(
    "query",
    [
        *("direction=up", "action=maybe", "since=yesterday", "since=9999999d"),
        *("fingerprint=abc", f"fingerprint={'g' * 32}", "after=nothing", "after=%00", "after=" + "9" * 900),
        *("rule=" + "x" * 1001, "session=" + "x" * 1001),
    ],
)
async def test_a_query_that_is_not_understood_is_said_to_be_so(desk: Desk, query: str) -> None:
    await record(desk)
    answer = await desk.get(f"/findings?{query}", "carol")
    assert (answer.status_code, "expected" in answer.text) == (422, True)


@pytest.mark.parametrize(
    "query",
    ["until=0001-01-01T00:00:00%2B23:59", "rule=%00", "user=%ff", "session=%ed%a0%80", "rule=" + "*" * 900, "rule=[?]"],
)
async def test_a_strange_query_finds_nothing(desk: Desk, query: str) -> None:
    await desk.record(exchange("e1", findings=[found("x")]))
    assert await rules(desk, query) == (["x"] if query.endswith("*") else [])


async def test_pages_lead_to_all_findings_once(desk: Desk) -> None:
    many = [found(f"rule-{number:03}") for number in range(40)]
    await desk.record(*(exchange(f"e{one}", at=NOW + one, session=f"s{one}", findings=many) for one in range(3)))
    seen: list[tuple[str, str]] = []
    path, html = "/findings?rule=rule*&user=alice", ""
    while path:
        html = (await desk.get(path, "carol")).text
        page = rows(html)
        assert len(page) <= ROWS
        seen += page
        path = next((unescape(one) for one in re.findall(r'href="([^"]+)" rel="next"', html)), "")
        assert not path or "user=alice" in path
    assert len(seen) == len(set(seen)) == 120
    assert "First page" in html


async def test_sums_are_of_what_is_shown(desk: Desk) -> None:
    await record(desk)
    html = (await desk.get("/findings", "carol")).text

    def sums(name: str) -> Sequence[tuple[str, str]]:
        part = html.partition(f'aria-label="By {name}"')[2].partition("</section>")[0]
        return re.findall(r"<li><span[^>]*>(?:<a [^>]*>)?([^<]+).*?<span>(\d+)</span>", part)

    assert sums("rule") == [("npm-token", "2"), ("aws-key", "1")]
    assert sums("user") == [("alice", "2"), ("bob", "1")]
    assert sums("repository") == [("acme/app", "2"), ("b/c", "1")]
    assert 'aria-label="By user"' not in (await desk.get("/findings", "alice")).text


# --- where a secret was seen -----------------------------------------------------------------------------------------


async def test_a_secret_is_found_by_its_fingerprint_and_is_in_no_answer(desk: Desk) -> None:
    fingerprint = Fingerprints(desk.key).of(SECRET.encode())
    await desk.record(exchange("e1", findings=[found(fingerprint=fingerprint), found("other")]))
    answer = await desk.post("/findings/match", "alice", secret=SECRET)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/findings?fingerprint={fingerprint}")
    assert SECRET not in answer.text
    html = (await desk.get(answer.headers["location"], "alice")).text
    assert [rule for _, rule in rows(html)] == ["npm-token"]
    assert SECRET not in html


async def test_a_secret_that_was_not_seen_is_said_not_to_be(desk: Desk) -> None:
    await record(desk)
    answer = await desk.post("/findings/match", "carol", secret="another")
    assert "This secret was not seen." in (await desk.get(answer.headers["location"], "carol")).text
    only_others = f"/findings?fingerprint={'1' * 32}"
    assert "This secret was not seen in your exchanges." in (await desk.get(only_others, "bob")).text


@pytest.mark.parametrize("secret", ["", "x" * (MAX_SECRET_CHARS + 1)])
async def test_no_secret_and_one_too_long_are_said_to_be_so(desk: Desk, secret: str) -> None:
    answer = await desk.post("/findings/match", "alice", secret=secret)
    assert (answer.status_code, "secret: expected" in answer.text) == (422, True)


async def test_a_secret_in_the_wrong_field_is_not_repeated(desk: Desk) -> None:
    answer = await desk.get(f"/findings?fingerprint={SECRET}", "alice")
    assert (answer.status_code, SECRET in answer.text) == (422, False)


async def test_a_form_of_another_session_looks_for_nothing(desk: Desk) -> None:
    assert (await desk.post("/findings/match", "alice", secret=SECRET, csrf="other")).status_code == 403
    assert (await desk.post("/findings/match", "dave", secret=SECRET)).status_code == 403


# --- what strangers wrote --------------------------------------------------------------------------------------------


async def test_nothing_that_was_recorded_becomes_markup(desk: Desk) -> None:
    hostile = found(HOSTILE, where=HOSTILE, direction=HOSTILE, action=HOSTILE, fingerprint=HOSTILE)
    strange = exchange(HOSTILE, session=HOSTILE, findings=[hostile], user=HOSTILE, model=HOSTILE, repository=HOSTILE)
    await desk.record(strange)
    html = (await desk.get("/findings", "carol")).text
    assert is_inert(html)
    shown = {one.name for one in fields(FindingRow)} - {"id", "offset", "at", "opened_at"}
    assert html.count("&lt;script&gt;alert(1)") >= len(shown) - 2  # session and exchange are in links alone
    assert 'href="/sessions/%3Cscript%3E' in html


async def test_what_is_asked_for_becomes_no_markup(desk: Desk) -> None:
    query = urlencode({"rule": HOSTILE, "user": HOSTILE, "session": HOSTILE})
    assert is_inert((await desk.get(f"/findings?{query}", "carol")).text)


async def test_where_a_key_is_missing_is_told_to_the_log_alone(desk: Desk) -> None:
    def no_key() -> bytes:
        raise ConfigError("/etc/extproc/fingerprint.key: cannot be read")

    desk.console.reading._fingerprint_key = no_key
    answer = await desk.post("/findings/match", secret="x")
    assert answer.status_code == 503
    assert "fingerprint.key" not in answer.text
