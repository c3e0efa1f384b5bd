from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from extproc.dev.keys import SigningKey, mint
from extproc.errors import ExtprocError
from extproc.identity.token import parse
from extproc.secret import Secret
from extproc.signin.kept import Keeper, SignIn
from extproc.signin.oauth import Tokens
from extproc.signin.profile import Profile
from extproc.signin.tokens import fresh_token, revoke, sign_in_of
from tests.signin.serving import Clock, Idp, answering, grant_of

HOUR = 3600


async def signed_in(idp: Idp, session: aiohttp.ClientSession, profile: Profile, now: float, **how: Any) -> SignIn:
    answer = await grant_of(idp, session, **how)
    secrets = {name: Secret(answer[name]) for name in ("access_token", "id_token", "refresh_token") if name in answer}
    return sign_in_of(profile, Tokens(**secrets, expires_in=answer["expires_in"]), now)


@pytest.fixture
async def kept(idp: Idp, session: aiohttp.ClientSession, profile: Profile, keeper: Keeper, clock: Clock) -> SignIn:
    made = await signed_in(idp, session, profile, clock.now)
    keeper.save(made)
    idp.asked.clear()
    return made


def moved(idp: Idp, clock: Clock, seconds: float) -> None:
    idp.clock.now += seconds
    clock.now += seconds


# --- what a sign-in is -----------------------------------------------------------------------------------------------


def token(key: SigningKey, *, lifetime: int = HOUR, now: float = 0.0, **claims: Any) -> Secret:
    facts: dict[str, Any] = {"issuer": "https://i", "audience": "a", "user": "u", "groups": ()}
    return Secret(mint(key, **facts, now=now, lifetime_seconds=lifetime, extra=claims))


def test_the_profile_says_which_token_counts(key: SigningKey, profile: Profile) -> None:
    access, identity = token(key), token(key, lifetime=600)
    tokens = Tokens(access, identity, Secret("r"), expires_in=100.0)
    made = sign_in_of(profile, tokens, 50.0)
    assert (made.token, made.refresh_token, made.obtained_at, made.expires_at) == (access, Secret("r"), 50.0, 150.0)
    made = sign_in_of(msgspec.structs.replace(profile, use="id_token"), tokens, 50.0)
    assert (made.token, made.expires_at) == (identity, 650.0)
    with pytest.raises(ExtprocError, match="gave no ID token"):
        sign_in_of(msgspec.structs.replace(profile, use="id_token"), Tokens(access), 50.0)


def test_a_token_that_no_gateway_takes_is_refused_at_once(profile: Profile) -> None:
    with pytest.raises(ExtprocError, match=r"gave an access token that no gateway takes: .*--scope") as refused:
        sign_in_of(profile, Tokens(Secret("opaque-hunter2"), expires_in=60.0), 0.0)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ada", "upn": "x"}, "ada"),
        ({"preferred_username": None, "upn": "ada@example.com"}, "ada@example.com"),
        ({"preferred_username": ["x"], "email": "e@example.com", "name": "Ada"}, "e@example.com"),
        ({"preferred_username": "", "name": "", "sub": "0815"}, "0815"),
        ({"preferred_username": "a\x1b[2J\u202eb"}, "a [2J b"),
        ({"preferred_username": None, "name": None, "sub": 7}, "somebody without a name"),
    ],
)
def test_a_person_is_named_as_their_token_says(
    key: SigningKey, profile: Profile, claims: dict[str, Any], name: str
) -> None:
    assert sign_in_of(profile, Tokens(token(key, **claims), expires_in=60.0), 0.0).name == name


@pytest.mark.parametrize("claims", [{"exp": None}, {"exp": "soon"}, {"exp": -5}, {"exp": 1e300}])
def test_a_token_that_does_not_say_how_long_it_is_good_is_refused(
    key: SigningKey, profile: Profile, claims: dict[str, Any]
) -> None:
    with pytest.raises(ExtprocError, match="how long it is good"):
        sign_in_of(profile, Tokens(token(key, **claims)), 0.0)


def test_without_expires_in_the_token_itself_says_how_long(key: SigningKey, profile: Profile) -> None:
    # The issuer's clock is an hour behind: the token would have expired before it came.
    assert sign_in_of(profile, Tokens(token(key, now=1000.0, lifetime=1800)), 4600.0).expires_at == 6400.0


# --- fresh -----------------------------------------------------------------------------------------------------------


async def test_nobody_signed_in_has_no_token(keeper: Keeper, session: aiohttp.ClientSession, clock: Clock) -> None:
    with pytest.raises(ExtprocError, match="not signed in: run `extproc login`"):
        await fresh_token(keeper, session, clock)


async def test_a_token_that_is_good_for_five_minutes_is_handed_out_without_a_request(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    moved(idp, clock, HOUR - 300)
    assert await fresh_token(keeper, session, clock) == kept.token
    assert idp.asked == []


async def test_a_token_near_its_end_is_refreshed_and_kept(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    moved(idp, clock, HOUR - 299)
    found = await fresh_token(keeper, session, clock)
    assert parse(found.reveal()).claims["exp"] == int(idp.clock.now) + HOUR
    renewed = keeper.load()
    assert renewed is not None
    assert (renewed.token, renewed.expires_at) == (found, clock.now + HOUR)
    assert renewed.refresh_token not in {None, kept.refresh_token}
    assert await fresh_token(keeper, session, clock) == found
    assert idp.times("/token") == 1


async def test_a_short_token_is_refreshed_in_the_last_third_of_its_life(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    short = replace(kept, expires_at=kept.obtained_at + 90)
    keeper.save(short)
    moved(idp, clock, 60)
    assert await fresh_token(keeper, session, clock) == kept.token
    moved(idp, clock, 1)
    assert await fresh_token(keeper, session, clock) != kept.token


@pytest.mark.parametrize("skew", [-7200, 7200])
async def test_clocks_that_disagree_do_not_matter(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, profile: Profile, clock: Clock, skew: int
) -> None:
    idp.clock.now += skew
    for use in ("access_token", "id_token"):
        keeper.save(await signed_in(idp, session, msgspec.structs.replace(profile, use=use), clock.now))
        idp.asked.clear()
        moved(idp, clock, HOUR - 300)
        await fresh_token(keeper, session, clock)
        assert idp.times("/token") == 0, use
        moved(idp, clock, 1)
        await fresh_token(keeper, session, clock)
        assert idp.times("/token") == 1, use


async def test_a_clock_that_was_set_back_leads_to_a_new_token(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    clock.now -= 86_400
    await fresh_token(keeper, session, clock)
    assert idp.times("/token") == 1


async def test_many_processes_refresh_once(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    moved(idp, clock, HOUR)
    found = await asyncio.gather(*(fresh_token(replace(keeper), session, clock) for _ in range(8)))
    assert len(set(found)) == 1
    assert [status for path, status in idp.asked if path == "/token"] == [200]


async def test_a_copied_refresh_token_ends_the_sign_in_for_both(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    thief = Keeper(keeper.file.with_name("copied.json"), None)
    thief.save(kept)
    moved(idp, clock, HOUR)
    await fresh_token(keeper, session, clock)
    with pytest.raises(ExtprocError, match=r"has ended the sign-in .*used before.*run `extproc login`"):
        await fresh_token(thief, session, clock)
    moved(idp, clock, HOUR)
    with pytest.raises(ExtprocError, match=r"has ended the sign-in .*revoked.*run `extproc login`"):
        await fresh_token(keeper, session, clock)


async def test_a_revoked_sign_in_gives_no_more_tokens_even_while_the_last_one_is_good(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    assert await revoke(kept, session) is True
    moved(idp, clock, HOUR - 100)
    with pytest.raises(ExtprocError, match="run `extproc login`"):
        await fresh_token(keeper, session, clock)


async def test_without_a_refresh_token_the_token_serves_until_its_end(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, profile: Profile, clock: Clock
) -> None:
    kept = await signed_in(idp, session, profile, clock.now, scope="openid")
    assert kept.refresh_token is None
    keeper.save(kept)
    moved(idp, clock, HOUR - 1)
    assert await fresh_token(keeper, session, clock) == kept.token
    assert await revoke(kept, session) is False
    moved(idp, clock, 1)
    with pytest.raises(ExtprocError, match="the sign-in has expired: run `extproc login`"):
        await fresh_token(keeper, session, clock)


async def test_while_the_issuer_does_not_answer_a_good_token_serves(
    keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    away = msgspec.structs.replace(kept.profile, issuer="http://127.0.0.1:1")
    keeper.save(replace(kept, profile=away))
    clock.now += HOUR - 1
    assert await fresh_token(keeper, session, clock) == kept.token
    clock.now += 1
    with pytest.raises(ExtprocError, match=r"the token has expired, and http://127.0.0.1:1 does not answer"):
        await fresh_token(keeper, session, clock)


class Odd:
    """An issuer that answers a refresh in a way of its own."""

    def __init__(self, answer: dict[str, Any], status: int = 200) -> None:
        self._answer, self._status = answer, status

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/token":
            return web.json_response(self._answer, status=self._status)
        url = f"http://{request.host}"
        return web.json_response({"issuer": url, "token_endpoint": f"{url}/token"})


async def test_an_issuer_that_gives_no_new_refresh_token_leaves_the_old_one_good(
    key: SigningKey, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    new = token(key, now=clock.now + HOUR)
    clock.now += HOUR
    async with answering(Odd({"access_token": new.reveal(), "token_type": "Bearer", "expires_in": 60}).answer) as url:
        keeper.save(replace(kept, profile=msgspec.structs.replace(kept.profile, issuer=url)))
        assert await fresh_token(keeper, session, clock) == new
        now_kept = keeper.load()
        assert now_kept is not None
        assert (now_kept.refresh_token, now_kept.expires_at) == (kept.refresh_token, clock.now + 60)
        assert await revoke(now_kept, session) is False


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (400, {"error": "invalid_client"}, r"gives no other \(invalid_client\): run `extproc login`"),
        (200, {"access_token": "opaque", "token_type": "Bearer"}, "no gateway takes"),
        (200, {}, "no access_token"),
    ],
)
async def test_a_refresh_that_fails_otherwise_is_told_and_changes_nothing(
    keeper: Keeper,
    session: aiohttp.ClientSession,
    clock: Clock,
    kept: SignIn,
    status: int,
    answer: dict[str, Any],
    why: str,
) -> None:
    clock.now += HOUR
    async with answering(Odd(answer, status).answer) as url:
        odd = replace(kept, profile=msgspec.structs.replace(kept.profile, issuer=url))
        keeper.save(odd)
        with pytest.raises(ExtprocError, match=why):
            await fresh_token(keeper, session, clock)
        assert keeper.load() == odd


async def test_while_the_token_is_good_a_refusal_that_does_not_end_the_sign_in_does_no_harm(
    keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    clock.now += HOUR - 1
    for error in ("temporarily_unavailable", "invalid_client"):
        async with answering(Odd({"error": error}, 400).answer) as url:
            keeper.save(replace(kept, profile=msgspec.structs.replace(kept.profile, issuer=url)))
            assert await fresh_token(keeper, session, clock) == kept.token


async def test_for_long_a_token_has_half_of_its_life_before_it(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    moved(idp, clock, HOUR / 2)
    assert await fresh_token(keeper, session, clock, for_long=True) == kept.token
    moved(idp, clock, 1)
    assert await fresh_token(keeper, session, clock) == kept.token
    assert await fresh_token(keeper, session, clock, for_long=True) != kept.token


async def test_who_stops_while_the_issuer_answers_loses_nothing(
    key: SigningKey, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    asked, gate = asyncio.Event(), asyncio.Event()
    answer = {"access_token": token(key).reveal(), "token_type": "Bearer", "expires_in": 60, "refresh_token": "new"}

    class Slow(Odd):
        async def answer(self, request: web.Request) -> web.Response:
            if request.path == "/token":
                asked.set()
                await gate.wait()
            return await super().answer(request)

    clock.now += HOUR
    async with answering(Slow(answer).answer) as url:
        keeper.save(replace(kept, profile=msgspec.structs.replace(kept.profile, issuer=url)))
        asking = asyncio.create_task(fresh_token(keeper, session, clock))
        await asked.wait()
        # More than once, as somebody does who is impatient.
        for _ in range(3):
            asking.cancel()
            await asyncio.sleep(0)
        assert not asking.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
    now_kept = keeper.load()
    assert now_kept is not None
    assert now_kept.refresh_token == Secret("new")


async def test_a_token_is_not_used_where_its_refresh_token_cannot_be_kept(
    idp: Idp, keeper: Keeper, session: aiohttp.ClientSession, clock: Clock, kept: SignIn
) -> None:
    class Full(Keeper):
        def replace(self, sign_in: SignIn) -> None:
            raise ExtprocError("the disk is full")

    moved(idp, clock, HOUR)
    with pytest.raises(ExtprocError, match="the disk is full"):
        await fresh_token(Full(keeper.file, None), session, clock)
    with pytest.raises(ExtprocError, match="run `extproc login`"):
        await fresh_token(keeper, session, clock)
