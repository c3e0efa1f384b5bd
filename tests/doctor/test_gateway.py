from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.gateway import Gateway, absent, checks
from extproc.secret import Secret
from tests.certificates.handshake import server
from tests.doctor.conftest import pem

TOKEN = "a-token-of-alice"
SECRET = Secret(TOKEN)
PROFILE = {"gateway": "https://gateway.example", "issuer": "https://issuer.example", "client_id": "extproc"}


@dataclass
class Fake:
    """Answer as the gateway does: each value is a status and a code, by who asks."""

    with_token: tuple[int, str] = (200, "")
    without: tuple[int, str] = (401, "identity.missing")
    profile: dict[str, str] | None = field(default_factory=lambda: dict(PROFILE))
    decides: bool = True

    async def models(self, request: web.Request) -> web.Response:
        status, code = self.with_token if request.headers.get("authorization") == f"Bearer {TOKEN}" else self.without
        body: object = {"error": {"code": code, "message": "Said\x1b[31m why."}} if code else {"data": []}
        headers = {"x-gateway-decision-id": "1"} if self.decides else {}
        return web.Response(text=json.dumps(body), status=status, headers=headers)

    async def well_known(self, _request: web.Request) -> web.Response:
        return web.json_response(self.profile) if self.profile else web.Response(status=404)


@asynccontextmanager
async def served(fake: Fake, folder: Path | None) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/models", fake.models), web.get("/.well-known/copilot-extproc", fake.well_known)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server(folder, "tls") if folder else None).start()
    try:
        yield f"{'https' if folder else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        # aiohttp closes its sockets in the next turns of the loop (its documentation, "Graceful Shutdown").
        await asyncio.sleep(0.05)


async def looked(url: str, trusted: str, token: Secret | None = SECRET) -> dict[str, Verdict]:
    gateway = Gateway(url, trusted, token, "nobody is signed in", 5, time.time)
    return {result.id: result.verdict for result in await run(checks(gateway))}


async def seen(fake: Fake, folder: Path, trusted: Path | None = None) -> dict[str, Verdict]:
    async with served(fake, folder) as url:
        return await looked(url, pem(trusted or folder))


async def test_a_gateway_in_order_passes_all(ours: Path) -> None:
    found = await seen(Fake(), ours)
    assert {one: verdict.status.value for one, verdict in found.items()} == {
        "gateway.reachable": "ok",
        "gateway.trusted": "ok",
        "gateway.profile": "ok",
        "gateway.ready": "ok",
        "token.accepted": "ok",
    }
    assert "days left" in found["gateway.trusted"].sentence
    assert "https://issuer.example" in found["gateway.profile"].sentence


async def test_a_gateway_that_is_not_there_fails_all(ours: Path) -> None:
    async with served(Fake(), ours) as url:
        pass
    found = await looked(url, pem(ours))
    assert {verdict.status for verdict in found.values()} == {Status.FAILED}
    assert "cannot be reached" in found["gateway.reachable"].sentence


async def test_an_authority_that_is_not_trusted_is_named_with_what_to_do(ours: Path, theirs: Path) -> None:
    found = await seen(Fake(), ours, trusted=theirs)
    assert found["gateway.reachable"].status is Status.OK
    assert "not trusted here" in found["gateway.trusted"].sentence
    assert "NODE_EXTRA_CA_CERTS" in str(found["gateway.trusted"].todo)
    assert {found[one].status for one in ("gateway.profile", "gateway.ready", "token.accepted")} == {Status.FAILED}


async def test_a_certificate_for_another_name_is_not_trusted(ours: Path) -> None:
    async with served(Fake(), ours) as url:
        found = await looked(url.replace("127.0.0.1", "127.0.0.2"), pem(ours))
    assert found["gateway.trusted"].status is Status.FAILED


async def test_without_tls_there_is_no_certificate_to_look_at() -> None:
    async with served(Fake(), None) as url:
        found = await looked(url, "")
    assert found["gateway.trusted"].status is Status.SKIPPED
    assert found["gateway.ready"].status is Status.OK


async def test_a_gateway_without_a_profile_is_told(ours: Path) -> None:
    found = await seen(Fake(profile=None), ours)
    assert found["gateway.profile"].status is Status.FAILED
    assert "status 404" in found["gateway.profile"].sentence


@pytest.mark.parametrize(
    ("fake", "told"),
    [
        (Fake(without=(200, "")), "without a token is answered"),
        (Fake(without=(503, "gateway.draining")), "takes no requests now: status 503"),
        (Fake(decides=False), "takes no requests now: status 401"),
    ],
)
async def test_who_does_not_refuse_for_want_of_an_identity_is_not_ready(ours: Path, fake: Fake, told: str) -> None:
    verdict = (await seen(fake, ours))["gateway.ready"]
    assert verdict.status is Status.FAILED
    assert told in verdict.sentence


@pytest.mark.parametrize(
    ("answer", "told", "todo"),
    [
        ((401, "identity.expired"), "does not accept the token", "extproc login"),
        ((503, "identity.unavailable"), "does not accept the token", "issuer"),
        ((403, "policy.denied"), "the policy refuses", "extproc policy explain"),
        ((503, "recording.unavailable"), "could not be tried", "--config"),
        ((502, ""), "could not be tried: status 502", "--config"),
    ],
)
async def test_why_a_token_is_of_no_use_is_told(ours: Path, answer: tuple[int, str], told: str, todo: str) -> None:
    verdict = (await seen(Fake(with_token=answer), ours))["token.accepted"]
    assert verdict.status is Status.FAILED
    assert told in verdict.sentence
    assert todo in str(verdict.todo)
    assert TOKEN not in verdict.sentence
    assert verdict.sentence.isprintable()


async def test_a_401_that_is_not_of_the_gateway_is_not_blamed_on_the_token(ours: Path) -> None:
    verdict = (await seen(Fake(with_token=(401, "identity.expired"), decides=False), ours))["token.accepted"]
    assert "could not be tried" in verdict.sentence


async def test_without_a_token_it_is_said_why(ours: Path) -> None:
    async with served(Fake(), ours) as url:
        verdict = (await looked(url, pem(ours), None))["token.accepted"]
    assert verdict.status is Status.SKIPPED
    assert "nobody is signed in" in verdict.sentence


async def test_without_a_gateway_all_are_skipped() -> None:
    assert {result.verdict.status for result in await run(absent("No gateway."))} == {Status.SKIPPED}
