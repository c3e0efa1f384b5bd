from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.approving import rule
from tests.console.desk import HOSTILE, Desk, is_inert, opened
from tests.recording_of import NOW, Exchange, exchange

FINDING = {
    "rule": "npm-token",
    "direction": "prompt",
    "where": "messages[0].content",
    "offset": 4,
    "action": "mask",
    "at": 1.5,
    "fingerprint": "0" * 32,
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def asked(name: str, *, tokens: tuple[int, int] = (10, 2), refused: bool = False, **changes: Any) -> Exchange:
    opening, closing = exchange(name, **changes)
    closing["response"]["usage"] = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    if refused:
        closing |= {"outcome": "denied", "error": {"code": "policy.denied", "message": "no"}}
    return opening, closing


async def record(desk: Desk) -> None:
    await desk.record(
        asked("e1", at=NOW, findings=[FINDING], tokens=(1200, 30)),
        asked("e2", at=NOW + 30, refused=True, model="claude-sonnet-4.5"),
        asked("e3", at=NOW - 4000, session="s2"),
        asked("e4", at=NOW + 50, session="s3", user="bob", findings=[FINDING, FINDING]),
    )


def figures(html: str) -> dict[str, str]:
    """Return the number of each figure by what it is called."""
    found = re.findall(
        r'<div class="card"><div class="muted">([^<]+)</div>\s*<div class="figure">(.*?)</div>', html, re.DOTALL
    )
    return {name: re.sub(r"<[^>]+>|\s", "", value) for name, value in found}


async def test_auditors_and_administrators_see_everyones_figures_and_others_their_own(desk: Desk) -> None:
    await record(desk)
    everyone = {"exchanges per minute": "3", "streams open now": "3", "findings": "3", "refused": "1"}
    for user in ("carol", "dave"):
        html = (await desk.get("/", user)).text
        assert figures(html) == {**everyone, "approvals that wait": "0"}
        assert "What everyone did" in html
        assert "alice" not in html
    html = (await desk.get("/", "alice")).text
    mine = {"exchanges per minute": "2", "streams open now": "3", "findings": "1", "refused": "1"}
    assert figures(html) == {**mine, "approvals that wait for you": "0"}
    assert "Your own exchanges" in html


async def test_the_span_says_how_far_back_figures_go(desk: Desk) -> None:
    await record(desk)
    for span, exchanges in (("1h", "2"), ("24h", "3"), ("7d", "3")):
        html = (await desk.get(f"/?span={span}", "alice")).text
        assert f"of {exchanges} exchanges" in html
        assert f'data-live="/?span={span}"' in html
        assert f'href="/?span={span}" aria-current="true"' in html
    long_ago = asked("e5", at=NOW - 8 * 86_400)
    await desk.record(long_ago)
    assert "of 3 exchanges" in (await desk.get("/?span=7d", "alice")).text


async def test_tokens_are_told_by_model(desk: Desk) -> None:
    await record(desk)
    html = (await desk.get("/", "alice")).text
    rows = re.findall(r'<td data-label="model"[^>]*>([^<]+)</td>\s*<td[^>]*>(\d+)</td>\s*<td[^>]*>([^<]+)</td>', html)
    assert sorted(rows) == [("claude-sonnet-4.5", "1", "10"), ("gpt-5", "1", "1\u202f200")]


async def test_the_live_part_is_no_whole_page(desk: Desk) -> None:
    await record(desk)
    part = await desk.get("/?span=1h", "alice", part=True)
    assert part.status_code == 200
    assert "<html" not in part.text
    assert figures(part.text)["findings"] == "1"


async def test_plots_stay_where_they_are_within_a_step(desk: Desk) -> None:
    await record(desk)
    before = (await desk.get("/?span=24h", "alice")).text.partition("<svg")[2]
    desk.now += 2
    assert (await desk.get("/?span=24h", "alice")).text.partition("<svg")[2] == before


async def test_a_service_that_does_not_answer_is_said_to_be_missing(tmp_path: Path) -> None:
    async with opened(tmp_path, ("extproc_streams_open 5\n", None)) as desk:
        html = (await desk.get("/", "alice")).text
        assert figures(html)["streams open now"] == "5"
        assert "1 of 2 services answer" in html


async def test_where_no_service_answers_no_number_is_made_up(tmp_path: Path) -> None:
    async with opened(tmp_path, (None,)) as desk:
        assert figures((await desk.get("/", "alice")).text)["streams open now"] == "-"


async def test_only_what_somebody_can_approve_waits_for_them(desk: Desk) -> None:
    await desk.ask("a1")
    await desk.ask("a2", principal="issuer#bob", name="bob")
    await desk.ask("a3", rule=rule(approvers=frozenset({"admins"})))
    await desk.ask("a4", expires_at=NOW + 1)
    waiting = {user: figures((await desk.get("/", user)).text) for user in ("alice", "bob", "carol", "dave")}
    assert waiting["alice"]["approvals that wait for you"] == "0"
    assert waiting["bob"]["approvals that wait for you"] == "1"
    assert waiting["carol"]["approvals that wait"] == "4"
    assert waiting["dave"]["approvals that wait"] == "4"


async def test_a_page_leads_only_where_its_reader_may_go(desk: Desk) -> None:
    administrator = (await desk.get("/", "dave")).text
    assert 'href="/approvals"' not in administrator
    assert 'href="/findings' not in administrator
    assert 'href="/findings?since=1h"' in (await desk.get("/", "alice")).text


async def test_who_has_no_role_and_who_is_signed_out_see_nothing(desk: Desk) -> None:
    assert (await desk.get("/", "mallory")).status_code == 403
    signed_out = await desk.get("/?span=7d", None)
    assert (signed_out.status_code, signed_out.headers["location"]) == (303, "/sign-in?next=%2F%3Fspan%3D7d")


@pytest.mark.parametrize("span", ["2h", "%00", "%ff", "1h" * 1000, "<script>"])
async def test_a_span_that_is_none_is_said_to_be_none(desk: Desk, span: str) -> None:
    answer = await desk.get(f"/?span={span}")
    assert answer.status_code == 422
    assert "span: expected" in answer.text
    assert "<script>" not in answer.text.replace('<script src="/static/', "")


async def test_the_name_of_a_model_is_no_markup(desk: Desk) -> None:
    await desk.record(asked("e1", at=NOW, model=HOSTILE))
    assert is_inert((await desk.get("/", "carol")).text)
