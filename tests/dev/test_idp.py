from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.grants import s256
from extproc.dev.idp import make_app
from extproc.dev.keys import SigningKey, load_or_create
from extproc.dev.users import DEMO_USERS

ISSUER = "http://127.0.0.1:8089"
VERIFIER = "v" * 43
CALLBACK = "http://127.0.0.1:8088/callback"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REQUEST = {
    "response_type": "code",
    "client_id": "console",
    "redirect_uri": CALLBACK,
    "scope": "openid groups",
    "state": "s&1",
    "nonce": "n1",
    "code_challenge": s256(VERIFIER),
    "code_challenge_method": "S256",
}


class Clock:
    def __init__(self) -> None:
        # Some time ago, so that tokens minted after the clock was moved on are not from the future.
        self.now = time.time() - 700

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create(Path(tmp_path_factory.mktemp("idp")) / "key.pem")


@pytest.fixture
async def idp(key: SigningKey, clock: Clock) -> AsyncIterator[TestClient[Any, Any]]:
    app = make_app(key, issuer=ISSUER, audience="gateway", users=DEMO_USERS, now=clock)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _code(idp: TestClient[Any, Any], user: str = "alice", **changed: str) -> str:
    response = await idp.post("/authorize", data=REQUEST | changed | {"user": user}, allow_redirects=False)
    assert response.status == 303
    return parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]


async def _redeem(idp: TestClient[Any, Any], code: str, **changed: str) -> ClientResponse:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": "console",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    return await idp.post("/token", data=form | changed)


async def _claims(idp: TestClient[Any, Any], token: str, audience: str) -> dict[str, Any]:
    keys = jwt.PyJWKSet.from_dict(await (await idp.get("/jwks")).json())
    signing_key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, signing_key, ["RS256"], audience=audience, issuer=ISSUER)
    return claims


async def test_discovery_names_endpoints_under_the_issuer(idp: TestClient[Any, Any]) -> None:
    document = await (await idp.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == ISSUER
    endpoints = {name: value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))}
    assert endpoints == {
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "device_authorization_endpoint": f"{ISSUER}/device_authorization",
        "revocation_endpoint": f"{ISSUER}/revoke",
        "jwks_uri": f"{ISSUER}/jwks",
    }
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["grant_types_supported"] == ["authorization_code", "refresh_token", DEVICE_GRANT]
    assert "offline_access" in document["scopes_supported"]
    assert document["authorization_response_iss_parameter_supported"] is True


async def test_the_jwks_holds_the_public_half_only(idp: TestClient[Any, Any]) -> None:
    (jwk,) = (await (await idp.get("/jwks")).json())["keys"]
    assert set(jwk) == {"kty", "n", "e", "kid", "use", "alg"}


async def test_the_login_page_offers_every_demo_user_and_its_form_signs_in(idp: TestClient[Any, Any]) -> None:
    page = await (await idp.get("/authorize", params=REQUEST | {"user": "ignored", "odd": "ignored"})).text()
    assert re.findall(r'name="user" value="(\w+)"', page) == list(DEMO_USERS)
    fields = {unescape(k): unescape(v) for k, v in re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', page)}
    assert fields == REQUEST
    response = await idp.post("/authorize", data=fields | {"user": "alice"}, allow_redirects=False)
    location = urlsplit(response.headers["Location"])
    assert location._replace(query="").geturl() == CALLBACK
    assert parse_qs(location.query)["state"] == ["s&1"]
    assert parse_qs(location.query)["iss"] == [ISSUER]


async def test_the_code_flow_gives_two_tokens_that_verify_against_the_jwks(idp: TestClient[Any, Any]) -> None:
    response = await _redeem(idp, await _code(idp, "bob"))
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    answer = await response.json()
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "openid groups")
    access = await _claims(idp, answer["access_token"], "gateway")
    assert (access["sub"], access["groups"], access["client_id"]) == ("bob", ["developers", "approvers"], "console")
    assert (await _claims(idp, answer["id_token"], "console"))["nonce"] == "n1"


async def test_a_user_without_groups_gets_an_empty_list(idp: TestClient[Any, Any]) -> None:
    answer = await (await _redeem(idp, await _code(idp, "mallory"))).json()
    assert (await _claims(idp, answer["access_token"], "gateway"))["groups"] == []


async def test_a_code_cannot_be_used_twice(idp: TestClient[Any, Any]) -> None:
    code = await _code(idp)
    assert (await _redeem(idp, code)).status == 200
    again = await _redeem(idp, code)
    assert (again.status, (await again.json())["error"]) == (400, "invalid_grant")


async def test_a_code_expires_after_a_minute(idp: TestClient[Any, Any], clock: Clock) -> None:
    code = await _code(idp)
    clock.now += 60
    assert (await (await _redeem(idp, code)).json())["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "x"}, "invalid_grant"),
        ({"client_id": "other"}, "invalid_grant"),
        ({"client_id": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_token_request_that_does_not_match_gets_no_token(
    idp: TestClient[Any, Any], changed: dict[str, str], error: str
) -> None:
    response = await _redeem(idp, await _code(idp), **changed)
    assert (response.status, (await response.json())["error"]) == (400, error)


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "",
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://127.0.0.1:80@evil.example/",
        "http://localhost\\@evil.example/",
        "http://127.0.0.1:8088/#fragment",
        "http://127.0.0.1:8088/a\r\nSet-Cookie: x=1",
        "//127.0.0.1/",
        "javascript:alert(1)//127.0.0.1",
    ],
)
async def test_nothing_is_ever_sent_to_a_redirect_uri_that_is_not_loopback(
    idp: TestClient[Any, Any], redirect_uri: str
) -> None:
    request = REQUEST | {"redirect_uri": redirect_uri}
    shown = await idp.get("/authorize", params=request, allow_redirects=False)
    sent = await idp.post("/authorize", data=request | {"user": "alice"}, allow_redirects=False)
    assert (shown.status, sent.status) == (400, 400)
    assert "Location" not in shown.headers.keys() | sent.headers.keys()


@pytest.mark.parametrize("redirect_uri", ["http://localhost:1/cb?a=1", "http://127.0.0.1", "https://localhost/"])
async def test_loopback_redirect_uris_may_have_any_port_path_and_query(
    idp: TestClient[Any, Any], redirect_uri: str
) -> None:
    form = REQUEST | {"redirect_uri": redirect_uri, "user": "alice"}
    location = (await idp.post("/authorize", data=form, allow_redirects=False)).headers["Location"]
    assert location.startswith(redirect_uri + ("&" if "?" in redirect_uri else "?") + "code=")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
async def test_a_request_without_code_and_pkce_goes_back_to_the_client_as_an_error(
    idp: TestClient[Any, Any], changed: dict[str, str], error: str
) -> None:
    for response in [
        await idp.get("/authorize", params=REQUEST | changed, allow_redirects=False),
        await idp.post("/authorize", data=REQUEST | changed | {"user": "alice"}, allow_redirects=False),
    ]:
        query = parse_qs(urlsplit(response.headers["Location"]).query)
        assert (query["error"], query["state"], "code" in query) == ([error], ["s&1"], False)
        assert query["iss"] == [ISSUER]


@pytest.mark.parametrize("user", ["root", "", "Alice"])
async def test_only_demo_users_can_sign_in(idp: TestClient[Any, Any], user: str) -> None:
    response = await idp.post("/authorize", data=REQUEST | {"user": user}, allow_redirects=False)
    assert response.status == 400


@pytest.mark.parametrize("path", ["/token", "/device_authorization", "/revoke"])
async def test_the_back_channel_takes_forms_with_single_utf8_parameters_only(
    idp: TestClient[Any, Any], path: str
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    bad: list[Callable[[], Any]] = [
        lambda: idp.post(path, json={"client_id": "cli"}),
        lambda: idp.post(path, data="client_id=a&client_id=b", headers=form),
        lambda: idp.post(path, data=b"client_id=\xff", headers=form),
        lambda: idp.post(path, data=b"", headers=form),
    ]
    for send in bad:
        response = await send()
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


async def _begin(idp: TestClient[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await (await idp.post("/device_authorization", data={"client_id": "extproc-cli"})).json()
    return answer


async def _poll(idp: TestClient[Any, Any], device_code: str) -> dict[str, Any]:
    form = {"grant_type": DEVICE_GRANT, "device_code": device_code, "client_id": "extproc-cli"}
    answer: dict[str, Any] = await (await idp.post("/token", data=form)).json()
    return answer


async def test_the_device_flow_signs_in_the_person_who_enters_the_code(idp: TestClient[Any, Any], clock: Clock) -> None:
    begun = await _begin(idp)
    assert (begun["verification_uri"], begun["expires_in"], begun["interval"]) == (f"{ISSUER}/device", 600, 5)
    assert (await _poll(idp, begun["device_code"]))["error"] == "authorization_pending"
    assert (await _poll(idp, begun["device_code"]))["error"] == "slow_down"
    page = await (await idp.get(begun["verification_uri_complete"].removeprefix(ISSUER))).text()
    assert f'value="{begun["user_code"]}"' in page
    done = await idp.post("/device", data={"user_code": begun["user_code"], "user": "carol"})
    assert "signed in as carol" in await done.text()
    clock.now += 10
    tokens = await _poll(idp, begun["device_code"])
    assert (await _claims(idp, tokens["access_token"], "gateway"))["groups"] == ["auditors"]
    assert (await _claims(idp, tokens["id_token"], "extproc-cli"))["sub"] == "carol"
    assert (await _poll(idp, begun["device_code"]))["error"] == "invalid_grant"


async def test_a_person_may_refuse_the_device(idp: TestClient[Any, Any]) -> None:
    begun = await _begin(idp)
    await idp.post("/device", data={"user_code": begun["user_code"], "deny": "yes"})
    assert (await _poll(idp, begun["device_code"]))["error"] == "access_denied"


async def test_a_device_that_waits_too_long_is_told_so(idp: TestClient[Any, Any], clock: Clock) -> None:
    begun = await _begin(idp)
    clock.now += 600
    assert (await _poll(idp, begun["device_code"]))["error"] == "expired_token"
    late = await idp.post("/device", data={"user_code": begun["user_code"], "user": "alice"})
    assert late.status == 400


# --- refresh tokens --------------------------------------------------------------------------------------------------


async def _offline(idp: TestClient[Any, Any], user: str = "alice") -> str:
    answer = await (await _redeem(idp, await _code(idp, user, scope="openid offline_access"))).json()
    token: str = answer["refresh_token"]
    return token


async def _refresh(idp: TestClient[Any, Any], token: str, **changed: str) -> dict[str, Any]:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "console"}
    answer: dict[str, Any] = await (await idp.post("/token", data=form | changed)).json()
    return answer


async def test_a_refresh_token_is_given_to_who_asks_for_offline_access(idp: TestClient[Any, Any]) -> None:
    assert "refresh_token" not in await (await _redeem(idp, await _code(idp))).json()
    assert await _offline(idp)


async def test_a_refresh_gives_new_tokens_of_the_same_person(idp: TestClient[Any, Any], clock: Clock) -> None:
    token = await _offline(idp, "bob")
    clock.now += 600
    answer = await _refresh(idp, token)
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "openid offline_access")
    access = await _claims(idp, answer["access_token"], "gateway")
    assert (access["sub"], access["groups"], access["iat"]) == ("bob", ["developers", "approvers"], int(clock.now))
    assert (await _claims(idp, answer["id_token"], "console"))["sub"] == "bob"
    assert (await _refresh(idp, answer["refresh_token"]))["refresh_token"] != answer["refresh_token"]


async def test_a_refresh_token_that_is_used_again_ends_the_sign_in(idp: TestClient[Any, Any]) -> None:
    token = await _offline(idp)
    successor = (await _refresh(idp, token))["refresh_token"]
    assert (await _refresh(idp, token))["error"] == "invalid_grant"
    assert (await _refresh(idp, successor))["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_id": "other"}, "invalid_grant"),
        ({"client_id": ""}, "invalid_request"),
        ({"refresh_token": ""}, "invalid_request"),
        ({"refresh_token": "made-up.é"}, "invalid_grant"),
    ],
)
async def test_a_refresh_that_does_not_match_is_refused_and_ends_nothing(
    idp: TestClient[Any, Any], changed: dict[str, str], error: str
) -> None:
    token = await _offline(idp)
    assert (await _refresh(idp, token, **changed))["error"] == error
    assert "access_token" in await _refresh(idp, token)


async def test_a_revoked_refresh_token_is_good_no_more(idp: TestClient[Any, Any]) -> None:
    token = await _offline(idp)
    for form in ({"token": token, "client_id": "other"}, {"token": "unknown", "client_id": "console"}):
        assert (await idp.post("/revoke", data=form)).status == 200
    token = (await _refresh(idp, token))["refresh_token"]
    response = await idp.post("/revoke", data={"token": token, "client_id": "console"})
    assert (response.status, await response.read()) == (200, b"")
    assert (await _refresh(idp, token))["error"] == "invalid_grant"
