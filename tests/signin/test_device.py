from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from extproc.errors import ExtprocError
from extproc.keys.fetch import FetchFailed
from extproc.signin.device import MAX_WAIT_SECONDS, Prompt, sign_in
from extproc.signin.discovery import Provider, discover
from extproc.signin.oauth import OAuthRefused, Tokens
from tests.signin.serving import SCOPE, Clock, Idp, answering

BEGUN = {
    "device_code": "dc",
    "user_code": "BCDF-GHJK",
    "verification_uri": "https://id.example/device",
    "expires_in": 60,
}
GOOD = (200, {"access_token": "a.b.c", "token_type": "bearer"})
PENDING = (400, {"error": "authorization_pending"})
SLOWER = (400, {"error": "slow_down"})
DOWN: tuple[int, dict[str, Any]] = (503, {})


class Script:
    """An issuer that answers the polls in order, and a person's clock that moves only by sleeping."""

    def __init__(self, begun: dict[str, Any], polls: list[tuple[int, dict[str, Any]]]) -> None:
        self._begun, self._polls = begun, polls
        self.slept: list[float] = []
        self.shown: list[Prompt] = []
        self._clock = Clock(1000.0)

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        if request.path == "/device_authorization":
            assert form == {"client_id": "cli", "scope": SCOPE}
            return web.json_response(self._begun)
        assert (form["device_code"], form["client_id"]) == ("dc", "cli")
        status, body = self._polls.pop(0)
        return web.json_response(body, status=status)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock.now += seconds

    async def run(self, session: aiohttp.ClientSession) -> Tokens:
        async with answering(self.answer) as url:
            provider = Provider(url, f"{url}/token", device_authorization_endpoint=f"{url}/device_authorization")
            return await sign_in(
                session, provider, "cli", SCOPE, show=self.shown.append, sleep=self.sleep, now=self._clock
            )


async def test_a_person_who_enters_the_code_is_signed_in(session: aiohttp.ClientSession, idp: Idp) -> None:
    shown: list[Prompt] = []

    async def sleep(seconds: float) -> None:
        assert seconds == 5
        idp.clock.now += seconds
        if idp.times("/token") == 1:
            form = {"user_code": shown[0].code, "user": "bob"}
            assert (await session.post(f"{idp.url}/device", data=form)).status == 200

    provider = await discover(session, idp.url)
    tokens = await sign_in(session, provider, "cli", SCOPE, show=shown.append, sleep=sleep, now=idp.clock)
    assert (tokens.expires_in, tokens.refresh_token is None) == (3600, False)
    assert [status for path, status in idp.asked if path == "/token"] == [400, 200]
    assert shown[0].address == f"{idp.url}/device"
    assert shown[0].address_with_code == f"{idp.url}/device?user_code={shown[0].code}"


async def test_polls_are_five_seconds_apart_and_further_when_told_so(session: aiohttp.ClientSession) -> None:
    script = Script(BEGUN, [PENDING, SLOWER, PENDING, SLOWER, GOOD])
    await script.run(session)
    assert script.slept == [5, 5, 10, 10, 15]


@pytest.mark.parametrize(("interval", "slept"), [(2, 2), (0, 1), (-5, 1), ("soon", 5), (7.5, 7.5)])
async def test_the_issuer_says_how_often_but_never_more_than_each_second(
    session: aiohttp.ClientSession, interval: object, slept: float
) -> None:
    script = Script({**BEGUN, "interval": interval}, [GOOD])
    await script.run(session)
    assert script.slept == [slept]


async def test_an_issuer_that_does_not_answer_is_asked_less_often(session: aiohttp.ClientSession) -> None:
    script = Script(BEGUN, [DOWN, DOWN, GOOD])
    await script.run(session)
    assert script.slept == [5, 10, 20]


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
async def test_a_refusal_ends_it(session: aiohttp.ClientSession, error: str) -> None:
    script = Script(BEGUN, [PENDING, (400, {"error": error})])
    with pytest.raises(OAuthRefused, match=error):
        await script.run(session)


@pytest.mark.parametrize(("expires_in", "most"), [(60, 60), (1e12, MAX_WAIT_SECONDS), ("long", MAX_WAIT_SECONDS)])
async def test_nobody_waits_longer_than_the_code_lives(
    session: aiohttp.ClientSession, expires_in: object, most: float
) -> None:
    script = Script({**BEGUN, "expires_in": expires_in}, [PENDING] * 1000)
    with pytest.raises(OAuthRefused, match="nobody entered the code in time"):
        await script.run(session)
    assert most - 10 <= sum(script.slept) < most


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": None},
        {"user_code": ""},
        {"user_code": "\x1b]0;title\x07"},
        {"user_code": "x" * 101},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "http://id.example/device"},
        {"verification_uri": 7},
    ],
)
async def test_what_cannot_be_shown_safely_is_not_shown(
    session: aiohttp.ClientSession, changes: dict[str, Any]
) -> None:
    script = Script({**BEGUN, **changes}, [GOOD])
    with pytest.raises(ExtprocError, match="the issuer's answer holds no"):
        await script.run(session)
    assert script.shown == []


async def test_an_address_with_the_code_that_is_no_web_page_is_left_out(session: aiohttp.ClientSession) -> None:
    script = Script({**BEGUN, "verification_uri_complete": "file:///etc/passwd"}, [GOOD])
    await script.run(session)
    assert script.shown == [Prompt("https://id.example/device", "BCDF-GHJK", None)]


async def test_an_issuer_without_a_device_flow_is_named(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ExtprocError, match=r"has no device flow.*--browser"):
        await sign_in(
            *(session, Provider("https://i", "https://i/token"), "cli", SCOPE),
            show=lambda prompt: None,
            sleep=Script(BEGUN, []).sleep,
            now=Clock(0.0),
        )


async def test_an_issuer_that_cannot_be_reached_at_the_beginning_ends_it(session: aiohttp.ClientSession) -> None:
    provider = Provider(
        "http://127.0.0.1:1", "http://127.0.0.1:1/t", device_authorization_endpoint="http://127.0.0.1:1/d"
    )
    with pytest.raises(FetchFailed):
        await sign_in(
            session, provider, "cli", SCOPE, show=lambda p: None, sleep=Script(BEGUN, []).sleep, now=Clock(0.0)
        )
