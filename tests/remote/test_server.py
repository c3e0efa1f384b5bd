"""A server that is no console, or a hostile one: what comes of it is one line, and nothing goes elsewhere."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extproc.certificates.operations import ensure
from extproc.errors import ConfigError
from extproc.remote import server
from extproc.remote.server import Connection, Declined, check_address
from extproc.secret import Secret
from extproc.signin.authority import trusting
from extproc.signin.current import client_session
from tests.signin.serving import answering, serving

TOKEN = Secret("t.o.k")


async def asked(url: str, path: str = "/me", tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    async with client_session(tls) as session:
        return await Connection(session, url, TOKEN).get(path, dict[str, Any])


def saying(**answer: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def say(_request: web.Request) -> web.Response:
        return web.Response(**answer)

    return say


async def test_a_request_is_what_was_asked_for_and_no_more() -> None:
    seen: list[web.Request] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({})

    async with answering(look) as url:
        await asked(f"{url}/", "/exchanges/%2E%2E%2Fme")
    (request,) = seen
    assert request.raw_path == "/api/v1/exchanges/%2E%2E%2Fme"
    assert request.headers["authorization"] == "Bearer t.o.k"
    assert "cookie" not in request.headers


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    elsewhere: list[str] = []

    async def draw(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return web.json_response({})

    async with answering(draw) as trap, answering(saying(status=status, headers={"location": f"{trap}/x"})) as url:
        with pytest.raises(ConfigError, match=f"status {status}; is this the console's address"):
            await asked(url)
    assert elsewhere == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"text": "<html>"}, "not one of a console of this version"),
        ({"text": "[1]"}, "not one of a console of this version"),
        ({"text": "[" * 100_000}, "not one of a console of this version"),
        ({"body": b"\xff"}, "not one of a console of this version"),
        ({"text": "no", "status": 404}, "status 404; is this the console's address"),
        ({"text": '{"error": "no"}', "status": 500}, "status 500; is this the console's address"),
        ({"status": 204}, "status 204; is this the console's address"),
    ],
)
async def test_what_is_no_answer_of_a_console_is_told_as_such(answer: dict[str, Any], told: str) -> None:
    async with answering(saying(**answer)) as url:
        with pytest.raises(ConfigError, match=told):
            await asked(url)


async def test_an_error_is_told_without_what_steers_a_terminal_and_not_at_any_length() -> None:
    error = '{"error": {"code": "x\\u001b[2J", "message": "%s"}}' % ("\\u202e" + "m" * 5000)
    async with answering(saying(text=error, status=403)) as url:
        with pytest.raises(Declined) as declined:
            await asked(url)
    assert declined.value.status == 403
    assert str(declined.value).startswith("x[2J: mmm")
    assert len(str(declined.value)) < 1100


async def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_BYTES", 1000)
    async with answering(saying(text='{"a": "' + "x" * 1000 + '"}')) as url:
        with pytest.raises(ConfigError, match="longer than 1000 bytes"):
            await asked(url)


async def test_a_body_that_no_console_takes_is_not_sent() -> None:
    async with answering(saying(text="{}")) as url, client_session() as session:
        with pytest.raises(ConfigError, match="9 MiB to send, and a console takes at most 8 MiB"):
            await Connection(session, url, TOKEN).post("/trace", dict[str, Any], "x" * (9 << 20))


async def test_the_authority_of_the_sign_in_is_trusted_and_no_other_but_the_systems(tmp_path: Path) -> None:
    ensure(tmp_path / "ca", (), time.time())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "ca" / "tls.crt", tmp_path / "ca" / "tls.key")
    app = web.Application()
    app.router.add_get("/api/v1/me", saying(text='{"id": "alice"}'))
    run = web.AppRunner(app, access_log=None)
    await run.setup()
    await web.TCPSite(run, "127.0.0.1", 0, ssl_context=tls).start()
    url = f"https://127.0.0.1:{run.addresses[0][1]}"
    try:
        found = await asked(url, tls=trusting((tmp_path / "ca" / "ca.pem").read_text()))
        assert found == {"id": "alice"}
        with pytest.raises(ConfigError, match="name the file of its authority in SSL_CERT_FILE"):
            await asked(url, tls=trusting(None))
    finally:
        await run.cleanup()


async def test_who_does_not_answer_is_told() -> None:
    async with serving(web.Application()) as url:
        pass
    with pytest.raises(ConfigError, match=r"the console does not answer \(ClientConnectorError\)"):
        await asked(url)


def test_only_https_or_this_machine_is_asked() -> None:
    check_address("https://console.example:8443")
    check_address("http://[::1]:8088")
    with pytest.raises(ConfigError, match="must be an https URL"):
        check_address("http://10.0.0.1")
