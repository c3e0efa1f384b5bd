from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extproc.console.pages.trace import MAX_CHARS, MAX_LINES
from tests.console.desk import HOSTILE, Desk, is_inert, opened
from tests.recording_of import NOW, Exchange, exchange

CODE = """\
def mean_of(values):
    total = sum(values)

    if not values:
        raise ValueError("no values")
    return total / len(values)
"""
DIFF = "--- a/mean.py\n+++ b/mean.py\n@@ -1,2 +1,7 @@\n import sys\n-old = 1\n" + "".join(
    f"+{line}\n" for line in CODE.splitlines()
)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def suggested(name: str = "e1", code: str = CODE, *, user: str = "alice", at: float = NOW) -> Exchange:
    opening, closing = exchange(name, user=user, at=at, answered=f"Here:\n```python\n{code}```", endpoint="chat")
    verdicts = [{"name": "bob", "approved": True}, {"name": "frank", "approved": False}]
    closing["approvals"] = [{"id": "a1", "state": "denied", "verdicts": verdicts}]
    return opening, closing


async def trace(desk: Desk, text: str, user: str = "carol", **fields: str) -> str:
    answer = await desk.post("/trace", user, text=text, **fields)
    assert answer.status_code == 200
    return answer.text


def ranges(html: str) -> list[tuple[str, str]]:
    """Return the lines and the match of each range."""
    row = r'<tr id="range-.*?<a href="#line-\d+">([^<]+)</a>.*?<span class="badge \w+">([^<]+)</span>'
    return re.findall(row, html, re.DOTALL)


def marked(html: str) -> list[tuple[str, str]]:
    """Return how each line of the text is marked, with its number."""
    return re.findall(r'<span class="(other|exact|edited|unknown)"[^>]*><span class="no">(\d+)</span>', html)


async def test_lines_of_a_snippet_are_told_with_who_asked_when_and_who_decided(desk: Desk) -> None:
    await desk.record(suggested())
    html = await trace(desk, "import sys\r\n\r\n" + CODE.replace("no values", "no values there").replace("\n", "\r\n"))
    assert ranges(html) == [("3-6", "exact"), ("7", "edited 91%"), ("8", "exact")]
    for told in ("alice", "2025-10-09 08:53:20", "gpt-5", "bob", "denied by frank", 'href="/sessions/s1#e1"'):
        assert told in html
    assert "6 of 7 lines were suggested, in 1 exchange" in html
    assert "Not known: line 1." in html
    assert marked(html) == [
        *(("unknown", "1"), ("other", "2"), ("exact", "3"), ("exact", "4"), ("exact", "5"), ("exact", "6")),
        *(("edited", "7"), ("exact", "8")),
    ]


async def test_the_added_lines_of_a_diff_are_traced(desk: Desk) -> None:
    await desk.record(suggested())
    html = await trace(desk, DIFF)
    assert ranges(html) == [("2-7", "exact")]
    assert '<h2 class="mono wrap">mean.py</h2>' in html
    assert marked(html)[0] == ("other", "1")
    assert "old = 1" not in html.partition('<pre class="traced">')[2].partition("</pre>")[0]


async def test_it_can_be_said_what_the_text_is(desk: Desk) -> None:
    await desk.record(suggested())
    assert ranges(await trace(desk, DIFF, kind="diff")) == [("2-7", "exact")]
    html = await trace(desk, DIFF, kind="snippet")
    assert len(marked(html)) == DIFF.count("\n")
    answer = await desk.post("/trace", "carol", text=CODE, kind="diff")
    assert (answer.status_code, "No unified diff" in answer.text) == (422, True)


async def test_a_file_that_is_twice_in_a_diff_is_told_twice(desk: Desk) -> None:
    await desk.record(suggested())
    html = await trace(desk, DIFF + DIFF)
    assert ranges(html) == [("2-7", "exact")] * 2
    assert [name for name, _ in marked(html)] == (["other"] + ["exact"] * 6) * 2
    assert html.count('id="line-') == 2


async def test_developers_see_only_what_was_suggested_to_them(desk: Desk) -> None:
    await desk.record(suggested())
    assert ranges(await trace(desk, CODE, "alice"))
    html = await trace(desk, CODE, "bob")
    assert "None of 5 lines is known to have been suggested to you" in html
    assert "alice" not in html


async def test_what_is_not_known_is_said_plainly(desk: Desk) -> None:
    html = await trace(desk, "first_line = 1\nsecond_line = 2\n\nfourth_line = 4\n")
    assert "None of 3 lines is known to have been suggested" in html
    assert "Not known: lines 1-2, 4." in html


async def test_when_the_lines_were_there_decides_between_suggestions(desk: Desk) -> None:
    await desk.record(suggested(), suggested("e2", at=NOW + 86_400))
    html = await trace(desk, CODE, before="2025-10-09T12:00")
    assert 'href="/sessions/s1#e1"' in html
    assert "and 1 other exchange" in html
    assert 'href="/sessions/s1#e2"' in await trace(desk, CODE)
    assert ">later</span>" in await trace(desk, CODE, before="2025-01-01")


async def test_that_somebody_asks_is_recorded(desk: Desk) -> None:
    before = sum(len(one.read_bytes()) for one in desk.places.spool.rglob("*") if one.is_file())
    await trace(desk, CODE)
    assert sum(len(one.read_bytes()) for one in desk.places.spool.rglob("*") if one.is_file()) > before


@pytest.mark.parametrize(("user", "status"), [("dave", 403), ("mallory", 403), (None, 401)])
async def test_trace_is_for_developers_and_auditors(desk: Desk, user: str | None, status: int) -> None:
    assert (await desk.get("/trace", user)).status_code == (303 if user is None else status)
    assert (await desk.post("/trace", user, text=CODE)).status_code == status
    assert (await desk.post("/trace", "carol", text=CODE, csrf="other")).status_code == 403


@pytest.mark.parametrize("user", ["alice", "carol"])
async def test_the_form_is_there_before_anything_is_asked(desk: Desk, user: str) -> None:
    html = (await desk.get("/trace", user)).text
    assert '<form class="card" method="post" action="/trace">' in html
    assert 'value="guess" checked' in html
    assert "traced" not in html


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({}, 422, "nothing to trace"),
        ({"text": " \r\n "}, 422, "nothing to trace"),
        ({"text": CODE, "kind": "poem"}, 422, "kind: expected"),
        ({"text": CODE, "before": "soon"}, 422, "before: expected"),
        ({"text": "x" * (MAX_CHARS + 1)}, 413, "longer than"),
        ({"text": "\n" * (MAX_LINES + 1) + "x"}, 413, "longer than"),
        ({"text": f"--- a\n+++ b\n@@ -1 +{'1' * 5000} @@\n+x\n"}, 422, "too long to be one"),
        ({"text": "--- a\n+++ b\n@@ -1 +0,0 @@\n"}, 422, "No unified diff"),
    ],
)
async def test_what_cannot_be_traced_is_said_to_be_so(
    desk: Desk, fields: dict[str, str], status: int, told: str
) -> None:
    answer = await desk.post("/trace", "carol", **fields)
    assert (answer.status_code, told in answer.text) == (status, True)


@pytest.mark.parametrize(
    "text", ["\x00", "\ud7ff\ufffe\U000e0001", "@@ -1 +1 @@\n+x", "--- a\n+++ b\n@@ -1 +1,99999 @@\n+x", "`" * 5000]
)
async def test_strange_texts_are_traced_like_others(desk: Desk, text: str) -> None:
    await trace(desk, text)


async def test_nothing_that_was_recorded_or_pasted_becomes_markup(desk: Desk) -> None:
    code = f"{CODE}name = '{HOSTILE}'\n"
    opening, closing = suggested(HOSTILE, code, user=HOSTILE)
    opening |= {"session": HOSTILE}
    opening["request"]["model"] = HOSTILE
    closing["approvals"] = [{"id": "a", "verdicts": [{"name": HOSTILE, "approved": one} for one in (True, False)]}]
    await desk.record((opening, closing))
    html = await trace(desk, code)
    assert ranges(html) == [("1-7", "exact")]
    assert is_inert(html)
    diff = f"--- a/{HOSTILE}\n+++ b/{HOSTILE}\n@@ -0,0 +1,7 @@\n" + "".join(f"+{one}\n" for one in code.splitlines())
    assert is_inert(await trace(desk, diff))
    assert is_inert(await trace(desk, f"</textarea></pre>{HOSTILE}"))
