"""`extproc drain`: lead traffic away from this Envoy, and wait until nothing runs in it; for a pod's preStop hook."""

from __future__ import annotations

import asyncio
from typing import Annotated

import aiohttp
import typer

from extproc.address import url_fault
from extproc.draining import Running
from extproc.draining import drain as drain_envoy
from extproc.errors import ConfigError, ExtprocError


def drain(
    seconds: Annotated[float, typer.Option(min=0, help="Longest wait, the pause included.")],
    admin: Annotated[str, typer.Option(help="Envoy's admin interface.")] = "http://127.0.0.1:9901",
    poll: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at what runs.")] = 0.5,
    pause: Annotated[
        float, typer.Option(min=0, help="Seconds in which new connections still come, before listeners are drained.")
    ] = 5.0,
) -> None:
    """Drain Envoy: return when no exchange runs any more. Exit 1 where some still do after --seconds."""
    if fault := url_fault(admin):
        raise ConfigError(f"--admin: the address {fault}; expected one such as http://127.0.0.1:9901")
    left = asyncio.run(_drain(admin.rstrip("/"), seconds, pause, poll))
    if left is not None:
        what = f"{left.exchanges} exchanges and {left.tunnels} tunnels"
        raise ExtprocError(f"drain: {what} still run after {seconds:g} s; they end with Envoy")


async def _drain(admin: str, seconds: float, pause: float, poll: float) -> Running | None:
    async with aiohttp.ClientSession() as session:
        return await drain_envoy(session, admin, seconds=seconds, pause=pause, poll=poll)
