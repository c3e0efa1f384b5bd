from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from extproc.errors import ExtprocError
from extproc.keys.fetch import FetchFailed
from extproc.secret import Secret
from extproc.signin.oauth import OAuthRefused, Tokens, post, request_tokens, shown
from tests.signin.serving import answering

GOOD = {"access_token": "a.b.c", "token_type": "bearer"}


async def given(session: aiohttp.ClientSession, answer: web.Response) -> Tokens:
    async def handler(request: web.Request) -> web.Response:
        assert await request.post() == {"grant_type": "x"}
        return answer

    async with answering(handler) as url:
        return await request_tokens(session, url, {"grant_type": "x"})


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (GOOD, Tokens(Secret("a.b.c"))),
        ({**GOOD, "token_type": "Bearer", "expires_in": 3599}, Tokens(Secret("a.b.c"), expires_in=3599.0)),
        ({**GOOD, "expires_in": "3599", "odd": [1]}, Tokens(Secret("a.b.c"), expires_in=3599.0)),
        ({**GOOD, "id_token": "i", "refresh_token": "r"}, Tokens(Secret("a.b.c"), Secret("i"), Secret("r"))),
    ],
)
async def test_tokens_are_read(session: aiohttp.ClientSession, answer: dict[str, Any], tokens: Tokens) -> None:
    assert await given(session, web.json_response(answer)) == tokens


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({}, "no access_token"),
        ({**GOOD, "access_token": ""}, "access_token is not a token"),
        ({**GOOD, "access_token": "a\nb"}, "access_token is not a token"),
        ({**GOOD, "refresh_token": 7}, "refresh_token is not a token"),
        ({**GOOD, "token_type": "DPoP"}, "not a bearer token"),
        ({"access_token": "a"}, "not a bearer token"),
        ({**GOOD, "expires_in": -1}, "expires_in is not a number of seconds"),
        ({**GOOD, "expires_in": True}, "expires_in is not a number of seconds"),
        ({**GOOD, "expires_in": "soon"}, "expires_in is not a number of seconds"),
    ],
)
async def test_an_answer_of_another_form_gives_no_token(
    session: aiohttp.ClientSession, answer: dict[str, Any], why: str
) -> None:
    with pytest.raises(ExtprocError, match=why):
        await given(session, web.json_response(answer))


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_is_told_with_its_code_and_cannot_steer_the_terminal(
    session: aiohttp.ClientSession, status: int
) -> None:
    answer = {"error": "invalid_grant", "error_description": "\x1b[2Jspent\n\u202e" + "x" * 1000}
    with pytest.raises(OAuthRefused) as refused:
        await given(session, web.json_response(answer, status=status))
    assert refused.value.error == "invalid_grant"
    assert str(refused.value).startswith("invalid_grant:  [2Jspent  xxx")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.json_response({"error": "invalid_grant"}, status=503),
        web.Response(status=400, text="<html>"),
        web.Response(text="<html>"),
        web.Response(text="x" * 300_000),
        web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"}),
    ],
)
async def test_where_the_issuer_did_not_decide_that_is_no_refusal(
    session: aiohttp.ClientSession, answer: web.Response
) -> None:
    with pytest.raises(FetchFailed):
        await given(session, answer)


async def test_nobody_there_is_no_refusal_and_shows_nothing_of_the_request(session: aiohttp.ClientSession) -> None:
    with pytest.raises(FetchFailed, match=r"^the request failed \(ClientConnectorError\)$"):
        await post(session, "http://127.0.0.1:1/token?secret", {"refresh_token": "hunter2"})


async def test_revocation_may_be_answered_without_a_body(session: aiohttp.ClientSession) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with answering(handler) as url:
        assert await post(session, url, {}) == {}


def test_what_is_shown_is_one_bounded_line() -> None:
    assert shown("a\r\nb\x00") == "a  b "
    assert len(shown("x" * 10_000)) == 300
