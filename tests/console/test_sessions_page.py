from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from extproc.recording.entry import read_head
from extproc.spool.folders import logs_in
from extproc.spool.reader import LogReader
from extproc.spool.records import Entry
from tests.console.desk import HOSTILE, Desk, is_inert, opened
from tests.console.rendered import Read
from tests.recording_of import NOW, exchange


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def sessions(html: str) -> list[str]:
    return re.findall(r'<tr data-href="/sessions/([^"]+)">', html)


def cells(html: str) -> dict[str, str]:
    """Return the cells of the first row by their labels."""
    row = html.partition("<tr data-href")[2].partition("</tr>")[0]
    found = re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', row, re.DOTALL)
    return {name: " ".join(re.sub(r"<[^>]+>", " ", value).split()) for name, value in found}


async def many(desk: Desk, count: int) -> None:
    await desk.record(*(exchange(f"x{at:03}", session=f"s{at:03}", at=NOW - 10 * at) for at in range(count)))


def href(html: str, label: str) -> str | None:
    found = re.search(rf'href="([^"]+)"[^>]*>{label}', html)
    return None if found is None else found[1].replace("&amp;", "&")


# --- what is shown ---------------------------------------------------------------------------------------------------


async def test_a_row_sums_up_a_session(desk: Desk) -> None:
    opening, closing = exchange(
        "x1",
        findings=[
            {
                "rule": "npm",
                "direction": "prompt",
                "action": "mask",
                "at": 1.0,
                "where": "w",
                "offset": 0,
                "fingerprint": "f",
            }
        ],
    )
    closing["response"]["usage"] = {"input_tokens": 1200, "output_tokens": 30}
    closing["approvals"] = [{"id": "a1"}]
    await desk.record(
        (opening, closing), exchange("x2", at=NOW + 60, outcome="denied", model="o3", repository="acme/lib")
    )
    html = (await desk.get("/sessions")).text
    assert cells(html) == {
        "Started (UTC)": "2025-10-09 08:53:20",
        "User": "alice",
        "Models": "gpt-5, o3",
        "Repositories": "acme/app, acme/lib",
        "Exchanges": "2",
        "Outcomes": "1 completed 1 denied",
        "Findings": "1",
        "Approvals": "1",
        "Tokens in / out": "1 200 / 30",
        "Duration": "1 min 1 s",
    }
    assert '<a href="/sessions/s1">' in html
    assert '<span class="badge good">1 completed</span>' in html
    assert '<span class="badge bad">1 denied</span>' in html


async def test_developers_see_their_own_and_auditors_everyones(desk: Desk) -> None:
    await desk.record(exchange("x1", session="hers"), exchange("x2", session="his", user="bob"))
    assert sessions((await desk.get("/sessions", "alice")).text) == ["hers"]
    assert sessions((await desk.get("/sessions?user=bob", "alice")).text) == []
    assert sessions((await desk.get("/sessions", "carol")).text) == ["his", "hers"]
    assert sessions((await desk.get("/sessions?user=bob", "carol")).text) == ["his"]
    assert 'name="user"' in (await desk.get("/sessions", "carol")).text
    assert 'name="user"' not in (await desk.get("/sessions", "alice")).text


@pytest.mark.parametrize(("user", "status"), [("dave", 403), ("mallory", 403), (None, 303)])
async def test_nobody_else_sees_sessions(desk: Desk, user: str | None, status: int) -> None:
    assert (await desk.get("/sessions", user)).status_code == status


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("group=developers", True),
        ("group=others", False),
        ("model=gpt-5", True),
        ("outcome=completed", True),
        ("outcome=denied", False),
        ("repository=acme/*", True),
        ("repository=other/*", False),
        ("path=src/*", True),
        ("path=infra/*", False),
        ("finding=npm*", True),
        ("finding=jwt", False),
        ("text=SAY+hello", True),
        ("text=goodbye", False),
        ("since=1h", True),
        ("since=10s", False),
        ("until=1h", False),
        ("since=2025-10-09&until=2025-10-10T00:00", True),
        ("model=&text=++", True),
    ],
)
async def test_filters_are_in_the_url_and_stay_in_the_form(desk: Desk, query: str, *, found: bool) -> None:
    finding = {
        "rule": "npm-token",
        "direction": "prompt",
        "action": "mask",
        "at": 1.0,
        "where": "w",
        "offset": 0,
        "fingerprint": "f",
    }
    await desk.record(exchange("x1", paths=["src/a.py"], findings=[finding]))
    answer = await desk.get(f"/sessions?{query}")
    assert answer.status_code == 200
    assert (sessions(answer.text) == ["s1"]) is found
    read = Read(answer.text)
    shown = {str(one["name"]): one["value"] for one in read.all("input") if one.get("value")}
    shown |= dict.fromkeys(["outcome"][: answer.text.count(" selected>")], "completed" if found else "denied")
    asked = {name: value[0] for name, value in parse_qs(query).items() if value[0].strip()}
    assert {name: value for name, value in shown.items() if name != "csrf"} == asked


# --- what is not understood ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("since=yesterday", "since: expected a date"),
        ("until=2026-13-01", "until: expected a date"),
        ("outcome=odd", "outcome: expected one of"),
        ("after=made-up", "This page of the list is not known"),
        ("model=" + "x" * 1001, "model: expected at most 1000 characters"),
    ],
)
async def test_what_is_not_understood_is_told_in_the_page(desk: Desk, query: str, told: str) -> None:
    await many(desk, 1)
    answer = await desk.get(f"/sessions?{query}")
    assert answer.status_code == 422
    assert f'role="alert">{told}' in answer.text
    assert '<form class="card" method="get"' in answer.text
    assert sessions(answer.text) == []
    part = await desk.get(f"/sessions?{query}", part=True)
    assert (part.status_code, told in part.text) == (422, True)


async def test_nothing_recorded_says_what_to_do_and_nothing_found_does_not(desk: Desk) -> None:
    html = (await desk.get("/sessions")).text
    assert "Nothing is recorded yet of you" in html
    assert "extproc run -- copilot" in html
    assert "Nothing is recorded yet<" in (await desk.get("/sessions", "carol")).text
    html = (await desk.get("/sessions?model=x")).text
    assert "No session fits." in html
    assert "extproc run" not in html


async def test_what_strangers_wrote_is_no_markup(desk: Desk) -> None:
    await desk.record(exchange("x1", user="alice", model=HOSTILE, repository=HOSTILE))
    assert is_inert((await desk.get("/sessions")).text)
    assert is_inert((await desk.get("/sessions", text=HOSTILE, model=HOSTILE)).text)


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_pages_lead_to_older_sessions_and_back(desk: Desk) -> None:
    await many(desk, 120)
    seen, url, trail, html = [], "/sessions?model=gpt-5", [], ""
    while url:
        html = (await desk.get(url)).text
        seen.append(sessions(html))
        trail.append(url)
        url = href(html, "Older") or ""
    assert [len(one) for one in seen] == [50, 50, 20]
    assert [name for one in seen for name in one] == [f"s{at:03}" for at in range(120)]
    assert all("model=gpt-5" in one for one in trail)
    back = [sessions(html)]
    while newer := href(html, "← Newer"):
        html = (await desk.get(newer)).text
        back.append(sessions(html))
    assert back == seen[::-1]


async def test_the_way_back_is_no_longer_than_some_pages(desk: Desk) -> None:
    await many(desk, 51)
    older = href((await desk.get("/sessions")).text, "Older")
    assert older is not None
    long = older + "".join(f"&trail=c{at}" for at in range(30))
    newer = href((await desk.get(long)).text, "← Newer")
    assert newer is not None
    assert parse_qs(urlsplit(newer).query)["trail"] == [f"c{at}" for at in range(10, 29)]


async def test_the_newest_page_can_be_watched_and_no_other(desk: Desk) -> None:
    await many(desk, 60)
    html = (await desk.get("/sessions?model=gpt-5")).text
    assert "data-live" not in html
    on = href(html, "Live: off")
    assert on is not None
    live = (await desk.get(on)).text
    (url,) = re.findall(r'data-live="([^"]+)" data-every="2000"', live)
    assert parse_qs(urlsplit(url.replace("&amp;", "&")).query) == {"model": ["gpt-5"], "live": ["1"]}
    part = await desk.get(url.replace("&amp;", "&"), part=True)
    assert "<html" not in part.text
    assert sessions(part.text) == sessions(html)
    await desk.record(exchange("new", session="new", at=NOW + 30))
    assert sessions((await desk.get(url.replace("&amp;", "&"), part=True)).text)[0] == "new"
    older = href(live, "Older")
    assert older is not None
    html = (await desk.get(f"{older}&live=1")).text
    assert "data-live" not in html
    assert href(html, "Live: off") is None


async def test_words_that_are_looked_for_are_recorded_with_whose_they_should_be(desk: Desk) -> None:
    await desk.record(exchange("x1"))
    for _ in range(2):
        await desk.get("/sessions?text=hello&user=alice", "carol")
        await desk.get("/sessions?text=hello&user=bob&since=7d", "carol")
        await desk.get("/sessions", "carol", text="hello")
    looks = [read_head(one.head).facts for folder in logs_in(desk.places.spool) for one in entries(folder)]
    told = [(one["text"], one.get("user")) for one in looks if one.get("action") == "search"]
    assert sorted(told, key=str) == [("hello", "alice"), ("hello", "bob"), ("hello", None)]


def entries(folder: Path) -> list[Entry]:
    return [one for _, one in LogReader(folder).read() if isinstance(one, Entry)]
