from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from extproc.dev import keys
from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.peers import Way, checks
from extproc.identity.issuers import Issuer, oidc
from tests.certificates.handshake import server
from tests.doctor.conftest import pem
from tests.doctor.test_way_around import cut, idle
from tests.proxying import listening


async def reached(way: Way) -> Verdict:
    # The authority of tests signs for this name too, which is found without asking anybody.
    (result,) = await run(checks(["localhost", "localhost"], [], way))
    assert result.id == "upstream.localhost.reachable"
    return result.verdict


async def test_a_host_that_is_there_and_trusted_is_reachable(theirs: Path) -> None:
    async with listening(idle, server(theirs, "tls")) as port:
        verdict = await reached(Way(pem(theirs), 5, port))
    assert verdict.status is Status.OK


async def test_a_host_that_is_not_there_not_trusted_or_cuts_off_fails(ours: Path, theirs: Path) -> None:
    async with listening(idle, server(theirs, "tls")) as port:
        assert "not trusted" in (await reached(Way(pem(ours), 5, port))).sentence
    gone = await reached(Way(pem(theirs), 5, port))
    assert "cannot be reached" in gone.sentence
    async with listening(cut) as port:
        assert "no TLS comes about" in (await reached(Way(pem(theirs), 5, port))).sentence
    assert gone.status is Status.FAILED
    assert "dnsPolicy" in str(gone.todo)


@asynccontextmanager
async def issuing(document: object) -> AsyncIterator[Issuer]:
    async def jwks(_request: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.add_routes([web.get("/keys", jwks)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield oidc(url, audiences=["extproc"], jwks_url=f"{url}/keys")
    finally:
        await runner.cleanup()
        await asyncio.sleep(0.05)


async def fetched(issuer: Issuer) -> Verdict:
    (result,) = await run(checks([], [issuer], Way("", 5)))
    assert result.id == f"issuer.{issuer.url}.keys"
    return result.verdict


async def test_an_issuer_that_tells_its_keys_is_in_order(tmp_path: Path) -> None:
    key = keys.load_or_create(tmp_path / "issuer.pem")
    async with issuing({"keys": [key.jwk()]}) as issuer:
        assert (await fetched(issuer)).status is Status.OK


@pytest.mark.parametrize("document", [{"keys": []}, [], {}])
async def test_an_issuer_without_keys_fails(document: object) -> None:
    async with issuing(document) as issuer:
        verdict = await fetched(issuer)
    assert verdict.status is Status.FAILED
    assert "cannot be fetched" in verdict.sentence


async def test_an_issuer_that_is_gone_fails() -> None:
    async with issuing({}) as issuer:
        pass
    assert (await fetched(issuer)).status is Status.FAILED
