from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from extproc.errors import ExtprocError
from extproc.identity.token import parse
from extproc.signin.browser import sign_in
from extproc.signin.discovery import Provider, discover
from extproc.signin.oauth import OAuthRefused, Tokens
from tests.signin.serving import SCOPE, Idp

Asked = dict[str, str]
Answer = Callable[[Asked], Coroutine[Any, Any, None]]


@pytest.fixture
async def provider(session: aiohttp.ClientSession, idp: Idp) -> Provider:
    return await discover(session, idp.url)


async def signing_in(
    session: aiohttp.ClientSession, provider: Provider, answer: Answer, timeout_seconds: float = 20.0
) -> Tokens:
    """Sign in while `answer` plays the person and the browser; it gets the authorization request."""
    loop, tasks = asyncio.get_running_loop(), []

    def opener(url: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        tasks.append(asyncio.run_coroutine_threadsafe(answer({**asked, "url": url}), loop))

    try:
        return await sign_in(session, provider, "cli", SCOPE, opener=opener, timeout_seconds=timeout_seconds)
    finally:
        for task in tasks:
            await asyncio.wrap_future(task)


async def redirected(session: aiohttp.ClientSession, asked: Asked, **answer: str) -> tuple[int, str]:
    async with session.get(asked["redirect_uri"], params={"state": asked["state"], **answer}) as response:
        return response.status, await response.text()


async def chosen(session: aiohttp.ClientSession, asked: Asked, user: str = "alice") -> tuple[str, str]:
    """Choose a user on the issuer's page and follow the redirect as a browser does; return its address and page."""
    page = await session.get(asked["url"])
    assert page.status == 200
    form = {**{name: value for name, value in asked.items() if name != "url"}, "user": user}
    async with session.post(asked["url"].partition("?")[0], data=form, allow_redirects=False) as response:
        assert response.status == 303
        location = response.headers["Location"]
    async with session.get(location) as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["Cache-Control"] == "no-store"
        return location, await response.text()


async def test_who_signs_in_with_the_browser_is_signed_in(session: aiohttp.ClientSession, provider: Provider) -> None:
    pages = []

    async def answer(asked: Asked) -> None:
        assert urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"
        assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == ("code", "S256", SCOPE)
        pages.append(await chosen(session, asked))

    tokens = await signing_in(session, provider, answer)
    assert parse(tokens.access_token.reveal()).claims["sub"] == "alice"
    assert tokens.refresh_token is not None
    assert "You can close this window" in pages[0][1]
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(pages[0][0])


async def test_each_sign_in_has_its_own_state_and_challenge(session: aiohttp.ClientSession, provider: Provider) -> None:
    seen: list[Asked] = []

    async def answer(asked: Asked) -> None:
        seen.append(asked)
        await chosen(session, asked)

    for _ in range(2):
        await signing_in(session, provider, answer)
    for name in ("state", "code_challenge"):
        assert len({asked[name] for asked in seen}) == 2
        assert all(len(asked[name]) >= 43 for asked in seen)


async def test_what_does_not_carry_the_state_is_refused_and_the_sign_in_goes_on(
    session: aiohttp.ClientSession, provider: Provider
) -> None:
    async def answer(asked: Asked) -> None:
        issuer = {"iss": provider.issuer}
        for strays in (
            {"code": "stolen", "state": "wrong", **issuer},
            {"code": "stolen", "state": "", **issuer},
            {"code": "stolen", "state": "é", **issuer},
            {"error": "access_denied", "state": asked["state"][:-1], **issuer},
            issuer,
        ):
            assert (await redirected(session, asked, **strays))[0] == 400, strays
        async with session.get(f"{asked['redirect_uri']}?state={asked['state']}&code=a&code=b") as response:
            assert response.status == 400
        async with session.post(asked["redirect_uri"], data={"state": asked["state"], "code": "x"}) as response:
            assert response.status == 405
        async with session.get(asked["redirect_uri"].replace("/callback", "/")) as response:
            assert response.status == 404
        await chosen(session, asked, "bob")

    tokens = await signing_in(session, provider, answer)
    assert parse(tokens.access_token.reveal()).claims["sub"] == "bob"


@pytest.mark.parametrize("issuer", [{"iss": "https://evil.example"}, {}])
async def test_an_answer_that_is_not_of_the_issuer_ends_it_before_the_code_is_used(
    session: aiohttp.ClientSession, provider: Provider, idp: Idp, issuer: dict[str, str]
) -> None:
    async def answer(asked: Asked) -> None:
        assert "failed" in (await redirected(session, asked, code="c", **issuer))[1]

    with pytest.raises(ExtprocError, match=f"not of {idp.url}"):
        await signing_in(session, provider, answer)
    assert idp.times("/token") == 0


async def test_an_issuer_that_never_names_itself_need_not(session: aiohttp.ClientSession, provider: Provider) -> None:
    silent = Provider(provider.issuer, provider.token_endpoint, f"{provider.authorization_endpoint}?tenant=1")

    async def answer(asked: Asked) -> None:
        assert asked["tenant"] == "1"
        await redirected(session, asked, code="made-up")

    with pytest.raises(OAuthRefused, match="invalid_grant"):
        await signing_in(session, silent, answer)


async def test_a_refusal_in_the_browser_is_told(session: aiohttp.ClientSession, provider: Provider) -> None:
    async def answer(asked: Asked) -> None:
        told = {"error": "access_denied", "error_description": "not \x1b[1myou", "iss": provider.issuer}
        assert "failed" in (await redirected(session, asked, **told))[1]

    with pytest.raises(OAuthRefused, match=r"^access_denied: not  \[1myou$"):
        await signing_in(session, provider, answer)


async def test_nobody_waits_for_ever(session: aiohttp.ClientSession, provider: Provider) -> None:
    async def answer(asked: Asked) -> None:
        return

    with pytest.raises(ExtprocError, match="nobody signed in within 0 seconds"):
        await signing_in(session, provider, answer, timeout_seconds=0.1)


async def test_an_issuer_without_an_authorization_endpoint_is_named(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ExtprocError, match=r"has no authorization endpoint.*--device"):
        await sign_in(session, Provider("https://i", "https://i/token"), "cli", SCOPE, opener=lambda url: None)


async def test_a_browser_that_stays_open_keeps_nobody_waiting(
    session: aiohttp.ClientSession, provider: Provider
) -> None:
    loop, closed = asyncio.get_running_loop(), threading.Event()

    def opener(url: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        asyncio.run_coroutine_threadsafe(chosen(session, {**asked, "url": url}), loop).result()
        closed.wait()

    try:
        tokens = await sign_in(session, provider, "cli", SCOPE, opener=opener, timeout_seconds=20.0)
        assert parse(tokens.access_token.reveal()).claims["sub"] == "alice"
    finally:
        closed.set()
