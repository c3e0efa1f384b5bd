from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from extproc.credential import ExchangeSpec
from extproc.credentials.exchange import Exchange, Flights, Tally
from extproc.errors import Code, Refused
from extproc.secret import Secret

if TYPE_CHECKING:
    from tests.credentials.conftest import Clock, GitHub

GITHUB_TOKEN = "ghu_0123456789abcdef"


@pytest.fixture
def flights() -> Flights:
    return set()


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def exchange(github: GitHub, clock: Clock, session: aiohttp.ClientSession, flights: Flights, tally: Tally) -> Exchange:
    spec = ExchangeSpec(url=github.url)
    return Exchange("team-a", spec, Secret(GITHUB_TOKEN), session=session, now=clock, flights=flights, tally=tally)


async def refusal_of(exchange: Exchange) -> str:
    with pytest.raises(Refused) as caught:
        await exchange.grant()
    assert (caught.value.refusal.status, caught.value.refusal.code) == (503, Code.CREDENTIAL_UNAVAILABLE)
    for secret in (GITHUB_TOKEN, "tid="):
        assert secret not in str(caught.value) + repr(caught.value.refusal)
    assert "'team-a'" in caught.value.refusal.message
    return caught.value.refusal.message


async def test_the_github_token_is_exchanged_once_and_the_grant_kept(exchange: Exchange, github: GitHub) -> None:
    assert (exchange.current(), exchange.expires) == (None, None)
    grant = await exchange.grant()
    assert exchange.expires == grant.expires
    assert grant.token.reveal().startswith("tid=exchanged1;")
    assert grant.api_host == "api.individual.githubcopilot.com"
    assert await exchange.grant() is exchange.current() is grant
    assert github.authorizations == [f"token {GITHUB_TOKEN}"]


async def test_a_hundred_callers_share_one_request(exchange: Exchange, github: GitHub) -> None:
    github.let_go.clear()
    callers = [asyncio.ensure_future(exchange.grant()) for _ in range(100)]
    await github.arrived.wait()
    github.let_go.set()
    grants = await asyncio.gather(*callers)
    assert len(github.authorizations) == 1
    assert len({id(grant) for grant in grants}) == 1


async def test_a_cancelled_caller_does_not_end_the_request_of_the_others(exchange: Exchange, github: GitHub) -> None:
    github.let_go.clear()
    first, second = asyncio.ensure_future(exchange.grant()), asyncio.ensure_future(exchange.grant())
    await github.arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    github.let_go.set()
    assert (await second).token.reveal().startswith("tid=")
    assert len(github.authorizations) == 1


async def test_a_token_is_renewed_in_the_background_while_the_old_one_serves(
    exchange: Exchange, github: GitHub, clock: Clock, flights: Flights
) -> None:
    old = await exchange.grant()
    clock.seconds = old.refresh - 1
    assert await exchange.grant() is old
    assert not flights
    clock.seconds = old.refresh
    github.let_go.clear()
    assert await exchange.grant() is exchange.current() is old
    assert len(flights) == 1
    github.let_go.set()
    await asyncio.gather(*flights)
    new = exchange.current()
    assert new is not None
    assert new.token.reveal().startswith("tid=exchanged2;")
    assert len(github.authorizations) == 2


async def test_the_old_token_serves_through_failed_renewals_until_it_expires(
    exchange: Exchange, github: GitHub, clock: Clock, flights: Flights, caplog: pytest.LogCaptureFixture
) -> None:
    old = await exchange.grant()
    github.answer = lambda: web.Response(status=500)
    clock.seconds = old.refresh
    assert exchange.current() is old
    await asyncio.gather(*flights)
    assert "status 500" in caplog.text
    assert GITHUB_TOKEN not in caplog.text
    clock.seconds = old.refresh + 4.9
    assert exchange.current() is old
    assert not flights  # too early to try again
    clock.seconds = old.refresh + 5
    assert exchange.current() is old
    await asyncio.gather(*flights)
    assert len(github.authorizations) == 3
    clock.seconds = old.expires
    assert exchange.current() is None
    assert "status 500" in await refusal_of(exchange)


async def test_after_a_failure_callers_are_refused_at_once_for_five_seconds(
    exchange: Exchange, github: GitHub, clock: Clock
) -> None:
    github.answer = lambda: web.Response(status=503)
    message = await refusal_of(exchange)
    github.answer = None
    clock.seconds += 4.9
    assert await refusal_of(exchange) == message
    assert len(github.authorizations) == 1
    clock.seconds += 0.1
    assert (await exchange.grant()).token.reveal().startswith("tid=exchanged2;")


@pytest.mark.parametrize(("status", "hint"), [(401, "revoked"), (403, "seat"), (404, "gho_"), (429, "429")])
async def test_a_refusal_of_github_says_what_to_check(
    exchange: Exchange, github: GitHub, status: int, hint: str
) -> None:
    github.answer = lambda: web.json_response(github.envelope(message="tid= do not quote me"), status=status)
    message = await refusal_of(exchange)
    assert hint in message
    assert "quote" not in message


async def test_a_redirect_is_not_followed(exchange: Exchange, github: GitHub) -> None:
    github.answer = lambda: web.Response(status=302, headers={"location": github.url})
    assert "redirect (302)" in await refusal_of(exchange)
    assert len(github.authorizations) == 1


async def test_an_answer_without_the_required_fields_is_refused(exchange: Exchange, github: GitHub) -> None:
    github.answer = lambda: web.json_response({"token": "tid=0123456789"})
    assert "no valid token" in await refusal_of(exchange)


async def test_an_answer_that_is_too_large_is_refused(exchange: Exchange, github: GitHub) -> None:
    github.answer = lambda: web.json_response(github.envelope(padding="x" * 65_536))
    assert "larger than 65536 bytes" in await refusal_of(exchange)


async def test_an_answer_that_is_large_only_after_decompression_is_refused(exchange: Exchange, github: GitHub) -> None:
    def compressed() -> web.StreamResponse:
        response = web.json_response(github.envelope(padding="x" * 10_000_000))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    github.answer = compressed
    assert "larger than 65536 bytes" in await refusal_of(exchange)


@pytest.mark.parametrize(
    "api",
    [
        "http://api.githubcopilot.com",
        "https://evil.example",
        "https://api.githubcopilot.com.evil.example",
        "https://user@api.githubcopilot.com",
        "https://api.githubcopilot.com:8443",
    ],
)
async def test_a_token_for_an_endpoint_that_is_not_allowed_is_never_used(
    exchange: Exchange, github: GitHub, api: str
) -> None:
    github.answer = lambda: web.json_response(github.envelope(endpoints={"api": api}))
    assert "exchange.allowed_hosts" in await refusal_of(exchange)
    assert exchange.current() is None


async def test_an_endpoint_that_turns_evil_does_not_replace_the_token_at_hand(
    exchange: Exchange, github: GitHub, clock: Clock, flights: Flights
) -> None:
    old = await exchange.grant()
    github.answer = lambda: web.json_response(github.envelope(endpoints={"api": "https://evil.example"}))
    clock.seconds = old.refresh
    exchange.current()
    await asyncio.gather(*flights)
    assert exchange.current() is old


async def test_a_server_that_does_not_answer_is_given_up(
    github: GitHub, clock: Clock, session: aiohttp.ClientSession
) -> None:
    github.let_go.clear()
    spec = ExchangeSpec(url=github.url, timeout_seconds=0.05)
    exchange = Exchange("team-a", spec, Secret(GITHUB_TOKEN), session=session, now=clock, flights=set(), tally=Tally())
    assert "did not answer within 0.05 s" in await refusal_of(exchange)


async def test_a_server_that_is_not_there_is_refused(
    clock: Clock, session: aiohttp.ClientSession, unused_port: int
) -> None:
    spec = ExchangeSpec(url=f"http://127.0.0.1:{unused_port}/token")
    exchange = Exchange("team-a", spec, Secret(GITHUB_TOKEN), session=session, now=clock, flights=set(), tally=Tally())
    assert "did not reach GitHub" in await refusal_of(exchange)


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
