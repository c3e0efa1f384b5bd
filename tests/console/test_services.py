from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

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
