from __future__ import annotations

import asyncio
import atexit
import html
import json
import logging
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import aiohttp
import jwt
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from extproc import config as config_file
from extproc.commands.console import server_of
from extproc.console.browser_sessions import BrowserSessions
from extproc.console.page import PageFault
from extproc.console.signing_in import MAX_NEXT, local_path, sign_in_of
from extproc.console.templates import environment
from extproc.dev import files, keys
from extproc.dev.idp import make_app as make_issuer
from extproc.dev.users import DEMO_USERS
from extproc.errors import ConfigError
from extproc.identities import verifier_of
from extproc.signin.discovery import MAX_BYTES

CLIENT: Final = "the-console"
HOUR: Final = 3600.0

Changed = Callable[[dict[str, Any]], Any]


class Clock:
    """The real time, and what was added to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.time() + self.added


@cache
def made_once() -> Path:
    """Return a state directory, which takes long to make."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    files.prepare(folder, files.Ports(), "http://127.0.0.1:1", now=time.time())
    keys.load_or_create(folder / keys.KEY_FILE)
    return folder


class Issuer:
    """The development issuer; `change` says what becomes of its JSON answers at a path, `asked` who asked for what."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self.state = state
        self.clock = clock
        self.change: dict[str, Changed] = {}
        self.asked: list[tuple[str, str | None, dict[str, str]]] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        shutil.copytree(made_once(), state)
        self.key = keys.load_or_create(state / keys.KEY_FILE)

    def app(self) -> web.Application:
        made = make_issuer(self.key, issuer=self.url, audience=files.AUDIENCE, users=DEMO_USERS, now=self.clock)

        @web.middleware
        async def changing(request: web.Request, handler: Any) -> Any:
            form = dict(parse_qsl(await request.text()))
            self.asked.append((request.path, request.headers.get("authorization"), form))
            answer = await handler(request)
            change = self.change.get(request.path)
            if change is None:
                return answer
            changed = change(json.loads(answer.text))
            return changed if isinstance(changed, web.Response) else web.json_response(changed)

        made.middlewares.append(changing)
        return made

    def signed(self, token: str, **claims: Any) -> str:
        """Return the same token with other claims, signed by the issuer; None takes one out."""
        told = {**jwt.decode(token, options={"verify_signature": False}), **claims}
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.key.private, algorithm="RS256", headers={"kid": self.key.kid})


@dataclass(slots=True)
class Page:
    status: int
    text: str
    location: str
    cookies: list[str]


class Browser:
    """Follows nothing by itself, and remembers cookies."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, **headers: str) -> Page:
        return await self._ask("GET", url, headers=headers)

    async def post(self, url: str, form: dict[str, str], **headers: str) -> Page:
        return await self._ask("POST", url, data=urlencode(form), headers=_FORM | headers)

    async def _ask(self, method: str, url: str, **options: Any) -> Page:
        async with self._session.request(method, url, allow_redirects=False, **options) as answer:
            location = answer.headers.get("location", "")
            return Page(answer.status, await answer.text(), location, answer.headers.getall("set-cookie", []))

    async def answer_of_issuer(self, console: str, user: str = "alice", next_: str = "/") -> str:
        """Begin to sign in, choose a user at the issuer, and return where it sends the browser."""
        begun = await self.get(f"{console}/sign-in?next={quote(next_, safe='')}")
        assert begun.status == 303
        form = (await self.get(begun.location)).text
        fields = {name: html.unescape(value) for name, value in _HIDDEN.findall(form)}
        origin = begun.location.partition("?")[0]
        return (await self.post(origin, {**fields, "user": user})).location

    async def sign_in(self, console: str, user: str = "alice", next_: str = "/") -> Page:
        return await self.get(await self.answer_of_issuer(console, user, next_))

    async def who(self, console: str) -> Any:
        return json.loads((await self.get(f"{console}/")).text)["who"]


_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session)


@asynccontextmanager
async def serving(issuer: Issuer, **sign_in: Any) -> AsyncIterator[str]:
    """Serve a page that says who is signed in, behind the sessions, with the routes of signing in."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = configured(issuer, url, **sign_in)
    async with verifier_of(config, issuer.clock) as verifier:
        signing = sign_in_of(config, verifier, issuer.clock)
        assert signing is not None
        app = Starlette(
            routes=[Route("/", home), Route("/deep/page", home), *signing.routes()],
            exception_handlers={PageFault: fault},
        )
        app.state.console = SimpleNamespace(templates=environment(), now=issuer.clock, url=url)
        sessions = BrowserSessions(app, now=issuer.clock, is_secure=False, seconds=8 * HOUR, idle_seconds=HOUR)
        server = server_of(sessions)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield url
        finally:
            server.stop()
            await running
            listening.close()


def configured(issuer: Issuer, url: str, **sign_in: Any) -> config_file.Config:
    path = issuer.state / "gateway.yaml"
    settings = yaml.safe_load(path.read_text())
    issuers = sign_in.pop("issuers", {})
    settings["issuers"][0].update({"issuer": issuer.url, **issuers})
    settings["console"] = {"url": url, "sign_in": {"issuer": issuer.url, "client_id": CLIENT, **sign_in}}
    path.write_text(yaml.safe_dump(settings))
    return config_file.load(path)


async def home(request: Request) -> Response:
    principal = request.session.get("principal")
    who = None if principal is None else [principal.id, principal.name, sorted(principal.groups)]
    return JSONResponse({"who": who, "csrf": request.session.get("csrf")})


async def fault(_request: Request, error: Any) -> Response:
    return PlainTextResponse(error.message, error.status)


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    one = Issuer(tmp_path / "state", Clock())
    runner = web.AppRunner(one.app(), access_log=None)
    await runner.setup()
    await web.SockSite(runner, one.listening).start()
    yield one
    await runner.cleanup()


@pytest.fixture
async def console(issuer: Issuer) -> AsyncIterator[str]:
    async with serving(issuer) as url:
        yield url


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as one:
        yield one


# --- signing in ------------------------------------------------------------------------------------------------------


async def test_who_signs_in_at_the_issuer_is_signed_in_and_comes_back_to_the_page(
    issuer: Issuer, console: str, browser: Browser
) -> None:
    assert await browser.who(console) is None
    arrived = await browser.sign_in(console, "bob", "/deep/page?q=a b&x=ä/ü//c")
    assert (arrived.status, arrived.location) == (303, "/deep/page?q=a%20b&x=%C3%A4/%C3%BC//c")
    assert await browser.who(console) == [f"{issuer.url}#bob", "bob", ["approvers", "developers"]]
    home_ = json.loads((await browser.get(f"{console}/")).text)
    assert len(home_["csrf"]) >= 32


async def test_what_is_asked_of_the_issuer_is_the_code_flow_with_pkce_state_and_nonce(
    issuer: Issuer, browser: Browser
) -> None:
    async with serving(issuer, scopes=["groups", "openid"]) as console:
        begun = await browser.get(f"{console}/sign-in", host="evil.example", **{"x-forwarded-host": "evil.example"})
        query = {name: value for name, (value,) in parse_qs(urlsplit(begun.location).query).items()}
        assert begun.location.startswith(f"{issuer.url}/authorize?")
        assert query.pop("redirect_uri") == f"{console}/signed-in"
        assert all(len(query.pop(name)) >= 20 for name in ("state", "nonce"))
        assert re.fullmatch("[A-Za-z0-9_-]{43}", query.pop("code_challenge"))
        assert query == {
            "response_type": "code",
            "client_id": CLIENT,
            "scope": "openid groups",
            "code_challenge_method": "S256",
        }
        assert (await browser.sign_in(console)).status == 303
        path, authorization, form = next(one for one in issuer.asked if one[0] == "/token")
        assert (path, authorization, form["client_id"]) == ("/token", None, CLIENT)
        assert "client_secret" not in form


@pytest.mark.parametrize(
    ("methods", "by_basic"),
    [(None, True), (["client_secret_post", "client_secret_basic"], True), (["client_secret_post"], False)],
)
async def test_a_client_with_a_secret_shows_it_as_the_issuer_wants(
    issuer: Issuer, browser: Browser, methods: list[str] | None, by_basic: Any
) -> None:
    (issuer.state / "secret").write_text("a-secret-of-the-client\n")
    issuer.change["/.well-known/openid-configuration"] = lambda told: {
        **told,
        "token_endpoint_auth_methods_supported": methods,
    }
    async with serving(issuer, client_secret_file="secret") as console:
        answer = await browser.answer_of_issuer(console)
        await browser.get(answer)
        _, authorization, form = next(one for one in issuer.asked if one[0] == "/token")
        expected = aiohttp.encode_basic_auth(CLIENT, "a-secret-of-the-client") if by_basic else None
        assert authorization == expected
        assert form.get("client_secret") == (None if by_basic else "a-secret-of-the-client")


def test_a_secret_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "state", Clock())
    config = configured(issuer, "http://127.0.0.1:1", client_secret_file="none")
    issuer.listening.close()
    with pytest.raises(ConfigError, match=r"console\.sign_in\.client_secret_file"):
        sign_in_of(config, None, issuer.clock)  # type: ignore[arg-type]


async def test_an_id_token_serves_where_the_issuer_is_trusted_for_the_clients_id(
    issuer: Issuer, browser: Browser
) -> None:
    async with serving(issuer, use="id_token", issuers={"audiences": [files.AUDIENCE, CLIENT]}) as console:
        assert (await browser.sign_in(console)).status == 303
        assert (await browser.who(console))[1] == "alice"


async def test_an_id_token_does_not_serve_where_it_is_not(issuer: Issuer, browser: Browser) -> None:
    async with serving(issuer, use="id_token") as console:
        told = await browser.sign_in(console)
        assert told.status == 403
        assert "another audience" in told.text
        assert "extproc login" not in told.text
        assert await browser.who(console) is None


async def test_who_has_no_group_signs_in_as_well(console: str, browser: Browser) -> None:
    assert (await browser.sign_in(console, "mallory")).status == 303
    assert (await browser.who(console))[1:] == ["mallory", []]


async def test_without_sign_in_in_the_settings_there_is_none(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "state", Clock())
    issuer.listening.close()
    settings = yaml.safe_load((issuer.state / "gateway.yaml").read_text())
    (issuer.state / "gateway.yaml").write_text(yaml.safe_dump({**settings, "console": {}}))
    config = config_file.load(issuer.state / "gateway.yaml")
    assert sign_in_of(config, None, issuer.clock) is None  # type: ignore[arg-type]


# --- the session -----------------------------------------------------------------------------------------------------


async def test_the_cookie_changes_at_signing_in_and_nobody_else_can_read_or_send_it(
    issuer: Issuer, console: str, browser: Browser
) -> None:
    begun = await browser.get(f"{console}/sign-in")
    arrived = await browser.sign_in(console)
    (before,), (after,) = begun.cookies, arrived.cookies
    assert before != after
    for cookie in (before, after):
        assert re.fullmatch("extproc-session=[A-Za-z0-9_-]{43}; HttpOnly; Path=/; SameSite=Lax", cookie)
    async with aiohttp.ClientSession() as other:
        planted = {"cookie": before.partition(";")[0]}
        async with other.get(f"{console}/", headers=planted) as answer:
            assert (await answer.json())["who"] is None


async def test_a_session_ends_by_the_clock(issuer: Issuer, console: str, browser: Browser) -> None:
    await browser.sign_in(console)
    issuer.clock.added += HOUR - 10
    assert await browser.who(console) is not None
    issuer.clock.added += HOUR
    assert await browser.who(console) is None
    assert (await browser.sign_in(console)).status == 303
    assert (await browser.who(console))[1] == "alice"


async def test_the_session_of_one_console_is_none_at_another(issuer: Issuer, console: str, browser: Browser) -> None:
    async with serving(issuer) as other:
        await browser.sign_in(console)
        assert await browser.who(console) is not None
        assert await browser.who(other) is None


async def test_whoever_signs_in_again_is_somebody_else(console: str, browser: Browser) -> None:
    await browser.sign_in(console, "alice")
    await browser.sign_in(console, "carol")
    assert (await browser.who(console))[1] == "carol"


async def test_to_begin_signing_in_changes_nothing_for_who_is_signed_in(console: str, browser: Browser) -> None:
    await browser.sign_in(console)
    assert (await browser.get(f"{console}/sign-in")).status == 303
    assert (await browser.who(console))[1] == "alice"


# --- signing out -----------------------------------------------------------------------------------------------------


async def test_signing_out_ends_the_session_and_says_so(console: str, browser: Browser) -> None:
    await browser.sign_in(console)
    csrf = json.loads((await browser.get(f"{console}/")).text)["csrf"]
    told = await browser.post(f"{console}/sign-out", {"csrf": csrf}, origin=console)
    assert told.status == 200
    assert "Signed out" in told.text
    assert 'href="/sign-in"' in told.text
    assert 'action="/sign-out"' not in told.text
    assert "Max-Age=0" in told.cookies[0]
    assert await browser.who(console) is None


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, {}),
        ({}, {"csrf": ""}),
        ({}, {"csrf": "A" * 43}),
        ({"origin": "https://evil.example"}, None),
        ({"sec-fetch-site": "cross-site"}, None),
    ],
)
async def test_nobody_else_can_sign_one_out(
    console: str, browser: Browser, headers: dict[str, str], form: dict[str, str] | None
) -> None:
    await browser.sign_in(console)
    csrf = json.loads((await browser.get(f"{console}/")).text)["csrf"]
    told = await browser.post(f"{console}/sign-out", {"csrf": csrf} if form is None else form, **headers)
    assert told.status == 403
    assert (await browser.who(console))[1] == "alice"
    assert (await browser.get(f"{console}/sign-out")).status == 405


# --- where one goes afterwards ---------------------------------------------------------------------------------------

HOSTILE = [
    "",
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/x\r\nset-cookie: a=b",
    "/x\x00",
    "/x\u2028",
    "/x\u202e",
    "/a//evil.example",
    "evil.example",
    "javascript:alert(1)",
    "/x?y=\\",
    "/sign-in",
    "/sign-in?next=/sign-in",
    "/signed-in?code=1&state=2",
    "/sign-out",
    "/" + "x" * MAX_NEXT,
    "/\ud800",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_no_path_of_ours_is_the_overview(hostile: str) -> None:
    assert local_path(hostile) == "/"


@pytest.mark.parametrize("local", ["/", "/sessions", "/sessions/a%2Fb?x=1&y=https://a//b", "/a b", "/%2F/x", "/signs"])
def test_a_path_of_ours_is_kept(local: str) -> None:
    assert local_path(local) == local


@given(st.text(alphabet="/\\ \t\r\n:@?#.%e\u2028x", max_size=12))
def test_no_browser_is_led_elsewhere(text: str) -> None:
    # What browsers do before they look: the URL Standard, sections 4.1 and 4.4.
    seen = re.sub("[\t\r\n]", "", local_path(text)).strip(" \x00").replace("\\", "/")
    assert seen.startswith("/")
    assert not seen.startswith("//")


async def test_after_signing_in_nobody_is_led_elsewhere(console: str, browser: Browser) -> None:
    for hostile in ("//evil.example", "/\\evil.example", "https://evil.example/", "/\t/evil.example"):
        assert (await browser.sign_in(console, next_=hostile)).location == "/"


# --- what goes wrong -------------------------------------------------------------------------------------------------


def changed(location: str, **values: str | None) -> str:
    """Return the address with other query parameters; None takes one out."""
    where, _, query = location.partition("?")
    kept = {name: value for name, value in {**dict(parse_qsl(query)), **values}.items() if value is not None}
    return f"{where}?{urlencode(kept)}"


async def refused(browser: Browser, console: str, location: str, status: int, sentence: str) -> None:
    told = await browser.get(location)
    assert (told.status, sentence in told.text) == (status, True), told.text
    assert "Traceback" not in told.text
    assert await browser.who(console) is None


NOT_BEGUN: Final = "was not begun in this browser"


async def test_an_answer_is_good_once(console: str, browser: Browser) -> None:
    answer = await browser.answer_of_issuer(console)
    assert (await browser.get(answer)).status == 303
    again = await browser.get(answer)
    assert again.status == 400
    assert NOT_BEGUN in again.text
    assert (await browser.who(console))[1] == "alice"


async def test_of_two_that_come_at_once_one_is_refused(console: str, browser: Browser) -> None:
    answer = await browser.answer_of_issuer(console)
    told = await asyncio.gather(browser.get(answer), browser.get(answer))
    assert sorted(one.status for one in told) == [303, 400]


async def test_a_sign_in_that_fails_signs_out_who_was_signed_in_before(console: str, browser: Browser) -> None:
    await browser.sign_in(console, "carol")
    answer = await browser.answer_of_issuer(console, "mallory")
    await refused(browser, console, changed(answer, error="access_denied"), 403, "access_denied")


async def test_an_answer_to_another_browser_is_refused_and_leaves_it_signed_out(console: str, browser: Browser) -> None:
    async with browsing() as other:
        theirs = await other.answer_of_issuer(console, "mallory")
        await refused(browser, console, theirs, 400, NOT_BEGUN)
        ours = await browser.answer_of_issuer(console)
        await refused(browser, console, theirs, 400, NOT_BEGUN)
        # An answer of somebody else does not spoil the sign-in that was begun.
        assert (await browser.get(ours)).status == 303


async def test_a_code_of_another_browsers_sign_in_is_refused(console: str, browser: Browser) -> None:
    async with browsing() as other:
        theirs = parse_qs(urlsplit(await other.answer_of_issuer(console, "mallory")).query)["code"][0]
        ours = await browser.answer_of_issuer(console)
        await refused(browser, console, changed(ours, code=theirs), 502, "invalid_grant")
        await refused(browser, console, ours, 400, NOT_BEGUN)


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"state": "AAAAAAAAAAAAAAAAAAAA"}, 400, NOT_BEGUN),
        ({"state": None}, 400, NOT_BEGUN),
        ({"code": "AAAA"}, 502, "invalid_grant"),
        ({"code": None}, 400, "not what OpenID Connect prescribes"),
        ({"iss": "https://evil.example"}, 403, "another issuer"),
        ({"iss": None}, 403, "another issuer"),
        ({"error": "access_denied"}, 403, "access_denied"),
        ({"error": "access_denied", "error_description": "not\nyou<b>"}, 403, "access_denied: not you<b>"),
        ({"error": "server_error"}, 502, "server_error"),
    ],
)
async def test_an_answer_that_was_changed_signs_nobody_in(
    console: str, browser: Browser, changes: dict[str, str | None], status: int, sentence: str
) -> None:
    answer = await browser.answer_of_issuer(console)
    await refused(browser, console, changed(answer, **changes), status, sentence)


async def test_a_parameter_that_comes_twice_is_refused(console: str, browser: Browser) -> None:
    answer = await browser.answer_of_issuer(console)
    for more in ("code=x", "state=x", "iss=x"):
        await refused(browser, console, f"{answer}&{more}", 400, "not what OpenID Connect prescribes")


async def test_an_answer_that_comes_too_late_is_refused(issuer: Issuer, console: str, browser: Browser) -> None:
    answer = await browser.answer_of_issuer(console)
    issuer.clock.added += 600
    await refused(browser, console, answer, 400, NOT_BEGUN)


BAD: Final = "not what OpenID Connect prescribes"


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], nonce="other")}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], nonce=None)}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], aud="other")}, 502, BAD),
        (
            lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], aud="other", azp=CLIENT)},
            502,
            BAD,
        ),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], aud=None)}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], iss="https://x.example")}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], exp=1)}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], exp="soon")}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], at_hash="AAAA")}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": told["id_token"][:-8] + "AAAAAAAA"}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": unsigned(told["id_token"])}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": by_hmac(issuer, told["id_token"])}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": 5}, 502, BAD),
        (lambda issuer, told: {**told, "id_token": "x"}, 502, BAD),
        (lambda issuer, told: without(told, "id_token"), 502, BAD),
        (lambda issuer, told: without(told, "access_token"), 502, BAD),
        (lambda issuer, told: {**told, "access_token": ["x"]}, 502, BAD),
        (lambda issuer, told: [], 502, BAD),
        (lambda issuer, told: {"error": "invalid_client"}, 502, "invalid_client"),
        (
            lambda issuer, told: {**told, "id_token": issuer.signed(told["id_token"], sub="bob")},
            502,
            "different people",
        ),
        (lambda issuer, told: {**told, "access_token": told["id_token"]}, 403, "another audience"),
        (
            lambda issuer, told: {**told, "access_token": issuer.signed(told["access_token"], exp=1)},
            403,
            "expired",
        ),
        (
            lambda issuer, told: {**told, "access_token": issuer.signed(told["access_token"], groups="admins")},
            403,
            "not a list",
        ),
        (lambda issuer, told: {**told, "access_token": "opaque"}, 403, "not a JWT"),
        (lambda issuer, told: web.Response(text="{}" + " " * MAX_BYTES), 502, "does not answer as it should"),
        (lambda issuer, told: web.Response(text="<html>"), 502, BAD),
        (lambda issuer, told: web.Response(text="no", status=500), 502, "does not answer as it should"),
        (
            lambda issuer, told: web.Response(status=302, headers={"location": "/token"}),
            502,
            "does not answer as it should",
        ),
    ],
)
async def test_tokens_that_are_not_right_sign_nobody_in_and_are_in_no_log(
    issuer: Issuer,
    console: str,
    browser: Browser,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Issuer, dict[str, Any]], Any],
    status: int,
    sentence: str,
) -> None:
    seen: list[str] = []

    def changing(told: dict[str, Any]) -> Any:
        new = change(issuer, told)
        values = [*told.values(), *(new.values() if isinstance(new, dict) else [])]
        seen.extend(one for one in values if isinstance(one, str) and len(one) > 100)
        return new

    issuer.change["/token"] = changing
    with caplog.at_level(logging.INFO):
        await refused(browser, console, await browser.answer_of_issuer(console), status, sentence)
    assert seen
    assert "a sign-in failed" in caplog.text
    assert not [one for one in seen if one in caplog.text]
    # The issuer recovers, and so does the person.
    del issuer.change["/token"]
    assert (await browser.sign_in(console)).status == 303


def unsigned(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none")


def by_hmac(issuer: Issuer, token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, secrets.token_bytes(64), algorithm="HS256", headers={"kid": issuer.key.kid})


def without(told: dict[str, Any], name: str) -> dict[str, Any]:
    return {one: value for one, value in told.items() if one != name}


DISCOVERY: Final = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda told: {**told, "issuer": "https://evil.example"}, "another issuer"),
        (lambda told: without(told, "issuer"), "another issuer"),
        (lambda told: without(told, "jwks_uri"), "lacks an endpoint"),
        (lambda told: {**told, "token_endpoint": "http://10.0.0.1/token"}, "lacks an endpoint"),
        (lambda told: {**told, "authorization_endpoint": "javascript:alert(1)"}, "lacks an endpoint"),
        (lambda told: {**told, "authorization_endpoint": 5}, "lacks an endpoint"),
        (lambda told: [], "no metadata"),
        (lambda told: web.Response(text="<html>"), "no metadata"),
        (lambda told: web.Response(text="{}" + " " * MAX_BYTES), "does not answer as it should"),
        (lambda told: web.Response(status=301, headers={"location": "/x"}), "does not answer as it should"),
        (lambda told: web.Response(status=503), "does not answer as it should"),
    ],
)
async def test_metadata_that_is_not_right_is_told_and_not_kept(
    issuer: Issuer, console: str, browser: Browser, change: Changed, sentence: str
) -> None:
    issuer.change[DISCOVERY] = change
    await refused(browser, console, f"{console}/sign-in", 502, sentence)
    del issuer.change[DISCOVERY]
    assert (await browser.sign_in(console)).status == 303


async def test_what_else_stands_in_the_metadata_does_not_steer_the_client(
    issuer: Issuer, console: str, browser: Browser
) -> None:
    evil = {"client_id": "x", "verify": False, "scope": "all", "proxy": "http://127.0.0.1:1", "response_type": "token"}
    issuer.change[DISCOVERY] = lambda told: {
        **told,
        **evil,
        "id_token_signing_alg_values_supported": ["none", "HS256"],
        "jwks": {"keys": []},
    }
    assert (await browser.sign_in(console)).status == 303


async def test_an_issuer_that_is_not_there_is_told(tmp_path: Path, browser: Browser) -> None:
    issuer = Issuer(tmp_path / "state", Clock())
    issuer.listening.close()
    async with serving(issuer) as console:
        await refused(browser, console, f"{console}/sign-in", 502, "does not answer as it should")


async def test_no_proxy_of_the_environment_is_asked(
    issuer: Issuer, console: str, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await browser.sign_in(console)).status == 303


async def test_metadata_and_keys_are_asked_for_once_an_hour(issuer: Issuer, console: str, browser: Browser) -> None:
    async def asked(user: str) -> list[str]:
        issuer.asked.clear()
        async with AsyncExitStack() as stack:
            other = await stack.enter_async_context(browsing())
            assert (await other.sign_in(console, user)).status == 303
        return [path for path, _, _ in issuer.asked]

    assert DISCOVERY in await asked("alice")
    again = await asked("bob")
    assert DISCOVERY not in again
    assert "/jwks" not in again
    issuer.clock.added += HOUR
    assert DISCOVERY in await asked("carol")
