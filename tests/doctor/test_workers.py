from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extproc.config import Settings
from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.workers import checks


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short, because a unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="extproc-") as name:
        yield Path(name)


def settings(**more: Any) -> Settings:
    oidc = {"kind": "oidc", "issuer": "https://issuer.example", "audiences": ["extproc"]}
    return Settings.model_validate({"policy": "p.yaml", "store": {"sqlite": "r.db"}, "issuers": [oidc], **more})


async def looked(settings: Settings, base: Path) -> dict[str, Verdict]:
    return {result.id: result.verdict for result in await run(checks(settings, base, 5))}


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_each_worker_is_looked_at(folder: Path) -> None:
    listening = await asyncio.start_unix_server(hang_up, folder / "0.sock")
    async with listening:
        found = await looked(settings(workers=2, listen=["unix:{worker}.sock"]), folder)
    assert found["worker.0"].status is Status.OK
    assert found["worker.1"].status is Status.FAILED
    assert "1.sock" in found["worker.1"].sentence


async def test_a_socket_that_nobody_listens_at_is_no_worker(folder: Path) -> None:
    (await asyncio.start_unix_server(hang_up, folder / "0.sock")).close()
    found = await looked(settings(listen=[f"unix:{folder}/0.sock"]), Path("/nowhere"))
    assert found["worker.0"].status is Status.FAILED


async def test_a_port_is_looked_at_as_well(folder: Path) -> None:
    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        assert (await looked(settings(listen=[f"0.0.0.0:{port}"]), folder))["worker.0"].status is Status.OK
    assert (await looked(settings(listen=[f"0.0.0.0:{port}"]), folder))["worker.0"].status is Status.FAILED


@pytest.mark.parametrize(("status", "expected"), [(200, Status.OK), (503, Status.FAILED)])
async def test_the_service_says_itself_whether_it_takes_exchanges(folder: Path, status: int, expected: Status) -> None:
    async def ready(_request: web.Request) -> web.Response:
        return web.Response(text="not ready: the disk is full\n", status=status)

    app = web.Application()
    app.add_routes([web.get("/readyz", ready)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        found = await looked(settings(operations=f"0.0.0.0:{runner.addresses[0][1]}"), folder)
    finally:
        await runner.cleanup()
        await asyncio.sleep(0.05)
    assert found["service.ready"].status is expected
    assert ("the disk is full" in found["service.ready"].sentence) is (expected is Status.FAILED)


async def test_a_service_that_is_gone_is_not_ready(folder: Path) -> None:
    # Port 9 of loopback (discard) has no listener.
    verdict = (await looked(settings(operations="127.0.0.1:9"), folder))["service.ready"]
    assert verdict.status is Status.FAILED
    assert verdict.sentence == "Nobody answers at http://127.0.0.1:9/readyz."
