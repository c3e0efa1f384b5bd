from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from extproc.certificates import operations
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fetch import FetchFailed
from extproc.signin.discovery import Provider, check_profile, discover, fetch_profile, is_endpoint, scope_of
from extproc.signin.profile import WELL_KNOWN, Profile
from tests.signin.serving import Idp, answering

TOLD = {"gateway": "https://gateway.example", "issuer": "https://id.example", "client_id": "cli", "scopes": ["a/b"]}


def document(url: str, **changes: Any) -> dict[str, Any]:
    return {"issuer": url, "token_endpoint": f"{url}/token", **changes}


async def test_the_gateway_tells_its_profile_at_the_well_known_address(session: aiohttp.ClientSession) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path != WELL_KNOWN:
            return web.Response(status=404)
        return web.json_response({**TOLD, "use": "id_token", "something_new": 1})

    async with answering(answer) as url:
        for address in (url, url + "/"):
            told = await fetch_profile(session, address)
            assert (told.issuer, told.client_id, told.scopes, told.use) == (
                *("https://id.example", "cli", ("a/b",)),
                "id_token",
            )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            web.Response(text="<html>welcome</html>", content_type="text/html"),
            "not JSON; is this the gateway's address",
        ),
        (web.Response(status=404), "status 404; is this the gateway's address"),
        (web.Response(status=302, headers={"Location": "https://elsewhere.example"}), "status 302"),
        (web.json_response([1]), "not a JSON object"),
        (web.json_response({**TOLD, "issuer": 1}), "Expected `str`, got `int` - at `$.issuer`"),
        (web.json_response({**TOLD, "use": "refresh_token"}), "Invalid enum value"),
        (web.json_response({"gateway": "https://gateway.example"}), "missing required field"),
        (web.json_response({**TOLD, "issuer": "http://id.example"}), "issuer must be an https URL"),
        (web.json_response({**TOLD, "gateway": "http://gateway.example"}), "gateway must be an https URL"),
        (web.json_response({**TOLD, "proxy": "http://gateway.example:3128"}), "proxy must be an https URL"),
        (web.json_response({**TOLD, "client_id": "a\x1b[2J"}), "client_id must be printable"),
        (web.json_response({**TOLD, "scopes": ["a b"]}), "a scope must be printable ASCII without spaces"),
    ],
)
async def test_what_is_no_profile_is_refused_by_name(
    session: aiohttp.ClientSession, answer: web.Response, why: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return answer

    async with answering(handler) as url:
        with pytest.raises(ExtprocError) as refused:
            await fetch_profile(session, url)
    assert why in str(refused.value)
    assert url in str(refused.value)


async def test_a_gateway_whose_certificate_is_not_trusted_says_what_to_do(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    operations.ensure(tmp_path / "ca", (), time.time())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ca" / "tls.crt", tmp_path / "ca" / "tls.key")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    async with server:
        with pytest.raises(FetchFailed, match=r"CertificateError\); name the file of its authority in SSL_CERT_FILE$"):
            await fetch_profile(session, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@pytest.mark.parametrize("address", ["http://gateway.example", "gateway:8080", "https://me:hunter2@gateway.example"])
async def test_a_gateway_is_asked_over_https_or_loopback_only(session: aiohttp.ClientSession, address: str) -> None:
    with pytest.raises(ConfigError, match="the gateway's address") as refused:
        await fetch_profile(session, address)
    assert "hunter2" not in str(refused.value)


async def test_the_issuer_tells_its_endpoints(session: aiohttp.ClientSession, idp: Idp) -> None:
    assert await discover(session, idp.url) == Provider(
        idp.url,
        f"{idp.url}/token",
        authorization_endpoint=f"{idp.url}/authorize",
        device_authorization_endpoint=f"{idp.url}/device_authorization",
        revocation_endpoint=f"{idp.url}/revoke",
        names_itself=True,
        scopes=frozenset({"openid", "offline_access", "profile", "groups"}),
    )


async def test_the_document_of_another_issuer_is_refused(session: aiohttp.ClientSession, idp: Idp) -> None:
    for address in (idp.url + "/", idp.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(ExtprocError, match="of another issuer"):
            await discover(session, address)


async def test_an_issuer_is_asked_over_https_or_loopback_only(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ConfigError, match="the issuer's address must be an https URL"):
        await discover(session, "http://id.example")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"token_endpoint": None}, "token_endpoint is missing"),
        ({"token_endpoint": "http://id.example/token"}, "token_endpoint must be an https URL"),
        ({"token_endpoint": 7}, "token_endpoint must be an https URL"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint must be an https URL"),
        ({"device_authorization_endpoint": "https://id.example/a#b"}, "device_authorization_endpoint must be"),
        ({"revocation_endpoint": "https://id.example/?\x1b[2J"}, "revocation_endpoint must be"),
    ],
)
async def test_endpoints_that_cannot_be_trusted_are_refused(
    session: aiohttp.ClientSession, changes: dict[str, Any], why: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(document(f"http://{request.host}", **changes))

    async with answering(handler) as url:
        with pytest.raises(ExtprocError, match=why):
            await discover(session, url)


async def test_no_answer_of_the_issuer_is_told_apart_from_a_wrong_one(session: aiohttp.ClientSession) -> None:
    with pytest.raises(FetchFailed, match=r"openid-configuration: the request failed \(Client"):
        await discover(session, "http://127.0.0.1:1")


def test_endpoints_may_have_a_query() -> None:
    assert is_endpoint("https://id.example/authorize?tenant=1")
    assert not is_endpoint("https://id.example/authorize?tenant=1 2")


@pytest.mark.parametrize(
    ("listed", "scope"),
    [
        (None, "openid offline_access groups"),
        ({"openid", "offline_access"}, "openid offline_access groups"),
        ({"openid"}, "openid groups"),
    ],
)
def test_a_refresh_token_is_asked_for_unless_the_issuer_does_not_know_that(listed: set[str] | None, scope: str) -> None:
    profile = Profile(gateway="https://g", issuer="https://i", client_id="cli", scopes=("groups", "openid"))
    scopes = None if listed is None else frozenset(listed)
    assert scope_of(profile, Provider("https://i", "https://i/token", scopes=scopes)) == scope


def test_a_profile_without_a_client_is_refused() -> None:
    profile = msgspec.convert({**TOLD, "client_id": ""}, Profile)
    with pytest.raises(ConfigError, match="login: client_id"):
        check_profile(profile, "login")
