from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from extproc.console.browser_sessions import PENDING_SECONDS, BrowserSessions, end, renew

SECONDS = 8 * 3600.0
IDLE = 3600.0
ID = "[A-Za-z0-9_-]{43}"


async def look(request: Request) -> Response:
    return JSONResponse(dict(request.session))


async def put(request: Request) -> Response:
    request.session.update(request.query_params)
    return JSONResponse(dict(request.session))


async def sign_in(request: Request) -> Response:
    renew(request)
    request.session["user"] = request.query_params["user"]
    return JSONResponse(dict(request.session))


async def sign_out(request: Request) -> Response:
    end(request)
    request.session["left"] = "over"
    return JSONResponse(dict(request.session))


class Waiting:
    """A handler that goes on when it is told to."""

    def __init__(self) -> None:
        self.began, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.began.set()
        await self.may_go_on.wait()
        seen = dict(request.session)
        request.session["late"] = "yes"
        return JSONResponse(seen)


class Site:
    """An application behind the sessions, and requests to it as a browser sends them."""

    def __init__(self, *, is_secure: bool = False, limit: int = 10_000) -> None:
        self.now = 1_000_000.0
        self.waiting = Waiting()
        routes = [Route(f"/{one.__name__}", one) for one in (look, put, sign_in, sign_out)]
        app: ASGIApp = Starlette(routes=[*routes, Route("/wait", self.waiting.__call__)])
        self.sessions = BrowserSessions(
            app, now=lambda: self.now, is_secure=is_secure, seconds=SECONDS, idle_seconds=IDLE, limit=limit
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.sessions), base_url="http://console")

    async def ask(self, path: str, cookie: str | None = None, **headers: str) -> httpx.Response:
        sent = headers if cookie is None else {**headers, "cookie": cookie}
        # What a client of its own would remember is not what these tests are about.
        self.client.cookies.clear()
        return await self.client.get(path, headers=sent)

    async def begun(self, path: str, cookie: str | None = None) -> str:
        answer = await self.ask(path, cookie)
        return answer.headers["set-cookie"].partition(";")[0]

    async def seen(self, cookie: str, **headers: str) -> Any:
        return (await self.ask("/look", cookie, **headers)).json()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    yield one
    await one.client.aclose()


async def test_who_only_looks_gets_no_cookie_and_no_session(site: Site) -> None:
    answer = await site.ask("/look")
    assert "set-cookie" not in answer.headers
    assert not site.sessions._pending.kept


async def test_a_session_begins_when_something_is_put_into_it_and_is_found_again(site: Site) -> None:
    answer = await site.ask("/put?colour=red")
    assert re.fullmatch(f"extproc-session={ID}; HttpOnly; Path=/; SameSite=Lax", answer.headers["set-cookie"])
    cookie = answer.headers["set-cookie"].partition(";")[0]
    again = await site.ask("/put?size=5", f"theme=dark; {cookie}; other=1")
    assert again.json() == {"colour": "red", "size": "5"}
    assert "set-cookie" not in again.headers
    assert await site.seen(cookie) == {"colour": "red", "size": "5"}


async def test_over_https_the_cookie_is_of_this_host_alone() -> None:
    site = Site(is_secure=True)
    answer = await site.ask("/put?a=1")
    told = answer.headers["set-cookie"]
    assert re.fullmatch(f"__Host-extproc-session={ID}; HttpOnly; Path=/; SameSite=Lax; Secure", told)
    cookie = told.partition(";")[0]
    assert await site.seen(cookie) == {"a": "1"}
    assert await site.seen(cookie.removeprefix("__Host-")) == {}
    assert (await site.ask("/sign_out", cookie)).headers["set-cookie"].endswith("; Secure; Max-Age=0")


async def test_ids_are_of_256_bits_and_never_the_same_and_none_is_kept(site: Site) -> None:
    cookies = {await site.begun("/put?a=1") for _ in range(100)}
    assert len(cookies) == 100
    assert all(len(key) == 32 for key in site.sessions._pending.kept)
    ids = {one.partition("=")[2].encode() for one in cookies}
    assert not ids & set(site.sessions._pending.kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, value: f"{name}={value}; {name}={value}",
        lambda name, value: f"{name}={value}; {name}={'A' * 43}",
        lambda name, value: f"{name}={'A' * 43}",
        lambda name, value: f"{name}={value[:-1]}",
        lambda name, value: f"{name}={value}A",
        lambda name, value: f'{name}="{value}"',
        lambda name, value: f"{name}={value},",
        lambda name, value: f"{name.upper()}={value}",
        lambda name, value: f"__Host-{name}={value}",
        lambda name, value: f"{name}={value}\u00e9".encode("latin-1").decode("latin-1"),
        lambda name, value: f"{name}",
        lambda name, value: f"{name}=",
        lambda name, value: "",
    ],
)
async def test_a_cookie_that_is_malformed_repeated_or_not_ours_is_no_session(
    site: Site, change: Callable[[str, str], str]
) -> None:
    cookie = await site.begun("/sign_in?user=alice")
    name, _, value = cookie.partition("=")
    assert await site.seen(change(name, value).encode("latin-1")) == {}  # type: ignore[arg-type]
    assert await site.seen(cookie) == {"user": "alice"}


@given(st.binary(max_size=200))
def test_no_cookie_breaks_it_or_is_taken_for_a_session(cookie: bytes) -> None:
    site = Site()
    key = site.sessions._key({"headers": [(b"cookie", cookie), (b"cookie", b"extproc-session=" + cookie)]})
    assert key is None or re.fullmatch(ID.encode(), cookie)


async def test_a_cookie_that_nobody_was_given_does_not_become_an_id(site: Site) -> None:
    chosen = f"extproc-session={'A' * 43}"
    assert await site.begun("/put?a=1", chosen) != chosen
    assert await site.seen(chosen) == {}


async def test_signing_in_changes_the_id_and_forgets_what_was_before(site: Site) -> None:
    before = await site.begun("/put?planted=1")
    after = await site.begun("/sign_in?user=alice", before)
    assert after != before
    assert await site.seen(after) == {"user": "alice"}
    assert await site.seen(before) == {}
    once_more = await site.begun("/sign_in?user=bob", after)
    assert await site.seen(after) == {}
    assert await site.seen(once_more) == {"user": "bob"}


@pytest.mark.parametrize("path", ["/sign_out", "/sign_in?user=bob"])
async def test_a_request_under_way_does_not_see_or_revive_what_was_forgotten(site: Site, path: str) -> None:
    cookie = await site.begun("/sign_in?user=alice")
    under_way = asyncio.create_task(site.ask("/wait", cookie))
    await site.waiting.began.wait()
    await site.ask(path, cookie)
    site.waiting.may_go_on.set()
    answer = await under_way
    assert answer.json() == {}
    assert "set-cookie" not in answer.headers
    assert await site.seen(cookie) == {}


async def test_signing_out_takes_the_cookie_and_begins_nothing(site: Site) -> None:
    cookie = await site.begun("/sign_in?user=alice")
    answer = await site.ask("/sign_out", cookie)
    assert answer.headers["set-cookie"] == "extproc-session=; HttpOnly; Path=/; SameSite=Lax; Max-Age=0"
    assert await site.seen(cookie) == {}
    assert not site.sessions._pending.kept
    assert not site.sessions._signed_in.kept


async def test_a_session_ends_after_its_time_however_busy_it_is(site: Site) -> None:
    cookie = await site.begun("/sign_in?user=alice")
    for _ in range(15):
        site.now += SECONDS / 16
        assert await site.seen(cookie) == {"user": "alice"}
    site.now += SECONDS / 16
    assert await site.seen(cookie) == {}


async def test_a_session_ends_after_a_silence_which_live_parts_of_a_page_do_not_break(site: Site) -> None:
    cookie = await site.begun("/sign_in?user=alice")
    site.now += IDLE - 1
    assert await site.seen(cookie) == {"user": "alice"}
    site.now += IDLE - 1
    assert await site.seen(cookie, **{"x-fragment": "1"}) == {"user": "alice"}
    site.now += 1
    assert await site.seen(cookie) == {}


async def test_without_signing_in_it_lasts_ten_minutes(site: Site) -> None:
    cookie = await site.begun("/put?a=1")
    site.now += PENDING_SECONDS - 1
    assert await site.seen(cookie) == {"a": "1"}
    site.now += 1
    assert await site.seen(cookie) == {}


async def test_a_flood_of_those_who_do_not_sign_in_pushes_out_only_the_oldest_of_them() -> None:
    site = Site(limit=10)
    signed_in = [await site.begun(f"/sign_in?user={number}") for number in range(5)]
    pending = [await site.begun(f"/put?n={number}") for number in range(20)]
    assert [await site.seen(one) for one in signed_in] == [{"user": str(number)} for number in range(5)]
    assert [await site.seen(one) for one in pending[:15]] == [{}] * 15
    assert [await site.seen(one) for one in pending[15:]] == [{"n": str(number)} for number in range(15, 20)]
    assert len(site.sessions._pending.kept) == 5


async def test_where_too_many_sign_in_who_was_silent_for_longest_goes() -> None:
    site = Site(limit=10)
    signed_in = [await site.begun(f"/sign_in?user={number}") for number in range(5)]
    await site.seen(signed_in[0])
    newest = await site.begun("/sign_in?user=new")
    assert await site.seen(signed_in[1]) == {}
    assert await site.seen(signed_in[0]) == {"user": "0"}
    assert await site.seen(newest) == {"user": "new"}


async def test_what_ended_is_not_kept_until_there_are_too_many(site: Site) -> None:
    for _ in range(10):
        await site.begun("/put?a=1")
    site.now += PENDING_SECONDS
    await site.begun("/put?a=1")
    assert len(site.sessions._pending.kept) == 1
