from __future__ import annotations

import asyncio

import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from extproc.commands.drain import drain
from extproc.draining import EXCHANGES, TUNNELS
from extproc.errors import ConfigError, ExtprocError


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(drain)
    return CliRunner().invoke(app, arguments)


def test_an_address_that_is_none_is_an_error_of_the_configuration() -> None:
    ran = run("--seconds", "1", "--admin", "127.0.0.1:9901")
    assert isinstance(ran.exception, ConfigError)
    with pytest.raises(ConfigError, match="--admin: the address"):
        raise ran.exception


def test_without_an_envoy_it_fails_rather_than_saying_that_nothing_runs() -> None:
    # Port 9 of loopback (discard) has no listener.
    ran = run("--seconds", "1", "--admin", "http://127.0.0.1:9")
    assert type(ran.exception) is ExtprocError


async def test_what_still_runs_at_the_end_is_told_and_fails() -> None:
    async def envoy(_request: web.Request) -> web.Response:
        return web.Response(text=f"{EXCHANGES}: 2\n{TUNNELS}: 1\n")

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", envoy)])
    async with TestServer(app) as server:
        ran = await asyncio.to_thread(run, "--seconds", "0.1", "--admin", f"http://127.0.0.1:{server.port}")
    assert type(ran.exception) is ExtprocError
    assert str(ran.exception) == "drain: 2 exchanges and 1 tunnels still run after 0.1 s; they end with Envoy"


def test_the_longest_wait_has_no_default() -> None:
    assert run().exit_code == 2
