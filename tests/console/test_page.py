from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message

from extproc.console.page import MAX_FORM_BYTES, PageFault, checked_form
from tests.console.desk import CSRF, URL, Desk, opened


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def sent(desk: Desk, body: bytes, *, csrf: str | None = CSRF, **headers: str) -> Request:
    """Return a form as a browser sends it to the console of a desk, from one of its own pages."""
    given = {"sec_fetch_site": "same-origin", "origin": URL, **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items() if value]
    app = type("App", (), {"state": type("State", (), {"console": desk.console})})
    session = {} if csrf is None else {"csrf": csrf}
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)] or [b""]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, "app": app, "session": session}
    return Request(scope, receive)


BODY = f"csrf={CSRF.replace(' ', '+')}&reason=a%26b&empty=".encode()


async def refused(request: Request) -> int:
    with pytest.raises(PageFault) as fault:
        await checked_form(request)
    return fault.value.status


async def test_a_form_of_ours_is_read_without_its_token(desk: Desk) -> None:
    assert await checked_form(sent(desk, BODY)) == {"reason": "a&b", "empty": ""}


@pytest.mark.parametrize(
    "headers",
    [{"sec_fetch_site": ""}, {"origin": ""}, {"sec_fetch_site": "", "origin": ""}],
    ids=["an old browser", "no origin", "neither"],
)
async def test_a_browser_that_says_less_is_let_in_by_the_token(desk: Desk, headers: dict[str, str]) -> None:
    assert await checked_form(sent(desk, BODY, **headers)) == {"reason": "a&b", "empty": ""}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8088"},
        {"origin": "http://127.0.0.1:8090"},
        {"origin": f"{URL}.evil.example"},
    ],
)
async def test_a_form_of_another_site_is_refused_whatever_token_it_has(desk: Desk, headers: dict[str, str]) -> None:
    assert await refused(sent(desk, BODY, **headers)) == 403


@pytest.mark.parametrize("csrf", [None, "", "another", CSRF + "x"])
async def test_a_form_without_the_sessions_own_token_is_refused(desk: Desk, csrf: str | None) -> None:
    assert await refused(sent(desk, BODY, csrf=csrf)) == 403
    assert await refused(sent(desk, b"csrf=&reason=x", csrf=csrf)) == 403
    assert await refused(sent(desk, b"reason=x", csrf=csrf)) == 403


async def test_a_form_that_is_too_long_or_unreadable_is_refused(desk: Desk) -> None:
    assert await refused(sent(desk, BODY + b"&x=" + b"y" * MAX_FORM_BYTES)) == 413
    assert await refused(sent(desk, b"\xff=1")) == 400
    assert await refused(sent(desk, b"no pair")) == 400
    assert await refused(sent(desk, b"a=1&" * 200 + BODY)) == 400


async def test_the_address_is_the_peers_whatever_a_header_says(desk: Desk) -> None:
    await desk.ask("a1")
    await desk._client.get("/approvals/a1", headers={"x-user": "bob", "x-forwarded-for": "203.0.113.9"})
    addresses = [event.address for event in await desk.approvals.events("a1")]
    assert addresses[-1] == "192.0.2.7"


async def test_a_page_shows_only_the_navigation_of_its_viewer(desk: Desk) -> None:
    shown = {user: (await desk.get("/", user)).text.partition("</nav>")[0] for user in ("alice", "dave")}
    assert ('href="/sessions"' in shown["alice"], 'href="/configuration"' in shown["alice"]) == (True, False)
    assert ('href="/sessions"' in shown["dave"], 'href="/configuration"' in shown["dave"]) == (False, True)


@pytest.mark.parametrize("session", [{}, {"csrf": ""}])
async def test_of_nobody_no_form_is_read(desk: Desk, session: dict[str, str]) -> None:
    app = Starlette()
    app.state.console = desk.console

    async def receive() -> Message:
        pytest.fail("the body was read")

    request = Request({"type": "http", "method": "POST", "headers": [], "app": app, "session": session}, receive)
    with pytest.raises(PageFault) as fault:
        await checked_form(request)
    assert fault.value.status == 403
