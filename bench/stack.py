"""The three ways through Envoy that are compared, each with processes, ports and a state directory of its own."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from bench import noop
from bench.client import BenchError, once
from extproc.dev import files, idp, keys, users, web
from extproc.dev.runner import envoy_binary

_HERE = Path(__file__).parent
_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0
_TOKEN_SECONDS = 4 * 3600
_SHIPPED_SECONDS = 5
"""A store that got nothing for so long has everything: the spool ships at once what is durable."""


class Variant(StrEnum):
    """What sits in the path."""

    OURS = "ours"
    NOOP = "no-op"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running Envoy and, but for `none`, the ext_proc service (process ids) behind it."""

    variant: Variant
    state: Path
    ports: files.Ports
    envoy: int
    service: int | None


@dataclass(frozen=True, slots=True)
class Stacks:
    """All that runs: the three ways, a token of a caller who may, and the upstream's process id."""

    ways: dict[Variant, Stack]
    token: str
    upstream: int

    @property
    def processes(self) -> list[int]:
        """Return the ids of every process that was started."""
        services = [way.service for way in self.ways.values() if way.service is not None]
        return [self.upstream, *services, *(way.envoy for way in self.ways.values())]


@asynccontextmanager
async def stacks(state: Path, variants: Sequence[Variant] = tuple(Variant)) -> AsyncIterator[Stacks]:
    """Run everything; each way has passed one exchange when this yields. Raises BenchError."""
    async with AsyncExitStack() as exits:
        upstream_port, issuer_port, *rest = free_ports(2 + 6 * len(variants))
        issuer = f"http://127.0.0.1:{issuer_port}"
        token = await _issuer(exits, state / "issuer.pem", issuer, issuer_port)
        upstream = await _start(
            exits, state, "upstream", [sys.executable, str(_HERE / "upstream.py"), str(upstream_port)]
        )
        ways = {}
        for variant in variants:
            ports = files.Ports(
                http=rest.pop(),
                https=rest.pop(),
                ops=rest.pop(),
                admin=rest.pop(),
                console=rest.pop(),
                proxy=rest.pop(),
                issuer=issuer_port,
                upstream=upstream_port,
            )
            ways[variant] = await _stack(exits, variant, state / variant, ports)
        for way in ways.values():
            await _passes(way, token)
        yield Stacks(ways, token, upstream)


async def _issuer(exits: AsyncExitStack, key_file: Path, issuer: str, port: int) -> str:
    key = keys.load_or_create(key_file)
    app = idp.make_app(key, issuer=issuer, audience=files.AUDIENCE, users=users.DEMO_USERS, now=time.time)
    task = asyncio.create_task(web.run(app, "127.0.0.1", port))
    exits.callback(task.cancel)
    return keys.mint(
        key,
        issuer=issuer,
        audience=files.AUDIENCE,
        user="alice",
        groups=users.DEMO_USERS["alice"],
        now=time.time(),
        lifetime_seconds=_TOKEN_SECONDS,
    )


async def _stack(exits: AsyncExitStack, variant: Variant, state: Path, ports: files.Ports) -> Stack:
    files.prepare(state, ports, f"http://127.0.0.1:{ports.upstream}", now=time.time())
    service = None
    match variant:
        case Variant.OURS:
            command = [sys.executable, "-m", "extproc", "serve", "--config", str(state / "gateway.yaml")]
            service = await _start(exits, state, "service", command)
        case Variant.NOOP:
            service = await _start(exits, state, "service", [sys.executable, str(_HERE / "noop.py"), files.SOCKET])
        case Variant.NONE:
            _without_ext_proc(state / "envoy.yaml")
    command = [envoy_binary(), "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--disable-hot-restart"]
    return Stack(variant, state, ports, await _start(exits, state, "envoy", command), service)


def _without_ext_proc(path: Path) -> None:
    """Take the ext_proc filter out of a configuration, and route what it would have routed."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    static = config["static_resources"]
    # Without the filter nobody would decide on a CONNECT.
    static["listeners"] = [one for one in static["listeners"] if one["name"] in {"http", "https"}]
    for chain in (chain for listener in static["listeners"] for chain in listener["filter_chains"]):
        manager = chain["filters"][0]["typed_config"]
        manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].endswith("ext_proc")]
        manager["access_log"] = [one for one in manager["access_log"] if not one["name"].endswith("http_grpc")]
        manager["route_config"]["validate_clusters"] = False  # they come from a file of their own, later
        decided = manager["route_config"]["virtual_hosts"][0]["routes"][0]
        del decided["match"]["headers"], decided["route"]["cluster_header"]
        decided["route"]["cluster"] = noop.UPSTREAM
    static["clusters"] = []
    path.write_text(yaml.safe_dump(config, sort_keys=False))


async def _start(exits: AsyncExitStack, state: Path, name: str, command: list[str]) -> int:
    """Start a process that ends with `exits`; its output goes to `<name>.log` in the state directory."""
    with (state / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=state, stdout=log, stderr=log)
    exits.push_async_callback(_end, process)
    return process.pid


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _passes(stack: Stack, token: str) -> None:
    """Wait until an exchange passes; raises BenchError."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            await once(stack.ports.http, token)
        except (BenchError, OSError) as error:
            if time.monotonic() > deadline:
                raise BenchError(f"{stack.variant} passes no exchanges: {error}; logs: {stack.state}") from None
            await asyncio.sleep(0.2)
        else:
            return


async def recorded(stack: Stack) -> int:
    """Return how many exchanges the store has as completed, once it gets no more: what ended is shipped to it."""
    query = "SELECT count(*) FROM entry WHERE kind = 'exchange'"
    counts = [_counted(stack, query)]
    while len(counts) <= _SHIPPED_SECONDS or counts[-1] != counts[-1 - _SHIPPED_SECONDS]:
        await asyncio.sleep(1)
        counts.append(_counted(stack, query))
    return _counted(stack, f"{query} AND json_extract(CAST(head AS TEXT), '$.facts.outcome') = 'completed'")


def _counted(stack: Stack, query: str) -> int:
    with closing(sqlite3.connect(f"file:{stack.state / 'record.db'}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(query).fetchone()
    return int(count)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
