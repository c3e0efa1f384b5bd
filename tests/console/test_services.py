from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from extproc.console.services import MAX_BYTES, Now, Services
from tests.console.desk import opened


@asynccontextmanager
async def services(folder: Path, *metrics: str | None) -> AsyncIterator[Services]:
    async with opened(folder, metrics) as desk:
        yield desk.console.services


async def test_streams_of_all_services_and_workers_are_added(tmp_path: Path) -> None:
    text = '# HELP x\nextproc_streams_open{pid="1"} 2.0\nextproc_streams_open{pid="2"} 3.0\nextproc_other 9\n'
    async with services(tmp_path, text, "extproc_streams_open 4\n") as found:
        assert await found.now() == Now(streams=9, answered=2, all=2)


@pytest.mark.parametrize(
    "text",
    [None, "extproc_streams_open x\n", "extproc_streams_open inf\n", "extproc_streams_open 1\n" + "#" * MAX_BYTES],
    ids=["an error", "no number", "no count", "too long"],
)
async def test_what_cannot_be_understood_counts_as_not_there(tmp_path: Path, text: str | None) -> None:
    async with services(tmp_path, text, "extproc_streams_open 1\n") as found:
        assert await found.now() == Now(streams=1, answered=1, all=2)


async def test_a_service_that_is_gone_counts_as_not_there() -> None:
    async with aiohttp.ClientSession() as session:
        assert await Services(["http://127.0.0.1:1"], session).now() == Now(streams=0, answered=0, all=1)


async def test_a_name_with_several_addresses_is_asked_at_each_by_its_name(tmp_path: Path) -> None:
    asked: list[str] = []

    async def metrics(request: web.Request) -> web.Response:
        asked.append(request.host)
        return web.Response(text="extproc_streams_open 2\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await web.TCPSite(runner, "127.0.0.2", port).start()

    async def resolve(host: str, _port: int) -> list[str]:
        assert host == "gateway.test"
        return ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    try:
        async with aiohttp.ClientSession() as session:
            found = await Services([f"http://gateway.test:{port}"], session, resolve).now()
    finally:
        await runner.cleanup()
    assert found == Now(streams=4, answered=2, all=3)
    assert asked == [f"gateway.test:{port}"] * 2


async def test_a_name_without_an_address_counts_as_one_that_is_not_there() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    async with aiohttp.ClientSession() as session:
        assert await Services(["http://gateway.test:1"], session, resolve).now() == Now(0, 0, 1)
