"""Run the ways that are compared, each with processes, ports and a state directory of its own."""

from __future__ import annotations

import asyncio
import operator
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from bench import peers, procfs
from bench.client import BenchError, Same, once
from bench.ways import ENVOY, PEERS, SERVICE, Variant, prepared
from extproc.dev import files, idp, keys, users, web

_HERE = Path(__file__).parent
_READY_SECONDS = 90.0
_STOP_SECONDS = 20.0
_TOKEN_SECONDS = 4 * 3600
_EXCHANGES = "SELECT count(*) FROM entry WHERE kind = 'exchange'"
_SHIPPED_SECONDS = 5
"""A store that got nothing for so long has everything: what is durable is shipped within a second."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running way: the ids of its processes by their names (`bench.ways`)."""

    variant: Variant
    state: Path
    ports: files.Ports
    processes: Mapping[str, int]

    @property
    def envoy(self) -> int:
        """Return the process id of Envoy."""
        return self.processes[ENVOY]

    @property
    def service(self) -> int | None:
        """Return the process id of the ext_proc service, or of the peer; None for the way without either."""
        return self.processes.get(SERVICE)

    @property
    def same(self) -> Same:
        """Return what compares an answer with the script: byte for byte, but for a peer that writes it anew."""
        return peers.same_text if self.variant is Variant.LITELLM else operator.eq

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each process with its children, by name."""
        return {name: sum(map(procfs.cpu_seconds, procfs.family(pid))) for name, pid in self.processes.items()}


@dataclass(frozen=True, slots=True)
class Stacks:
    """All that runs: the ways, a token of a caller who may, and the upstream's process id and port."""

    ways: dict[Variant, Stack]
    token: str
    upstream: int
    upstream_port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time of everything that was started, and of this process."""
        ways = sum(sum(way.cpu_seconds().values()) for way in self.ways.values())
        return ways + procfs.cpu_seconds(self.upstream) + time.process_time()


@asynccontextmanager
async def stacks(state: Path, variants: Sequence[Variant] = tuple(Variant)) -> AsyncIterator[Stacks]:
    """Run everything; each way has passed one exchange when this yields. Raises BenchError."""
    async with AsyncExitStack() as exits:
        upstream_port, issuer_port, *rest = free_ports(2 + 8 * len(variants))
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
                proxy_https=rest.pop(),
                envoy_ops=rest.pop(),
                issuer=issuer_port,
                upstream=upstream_port,
            )
            folder = state / variant.name.lower()
            commands = prepared(variant, folder, ports)
            processes = {name: await _start(exits, folder, name, command) for name, command in commands.items()}
            ways[variant] = Stack(variant, folder, ports, processes)
        for way in ways.values():
            await _passes(way, token)
        yield Stacks(ways, token, upstream, upstream_port)


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
            await once(stack.ports.http, token, stack.same)
        except (BenchError, OSError) as error:
            if time.monotonic() > deadline:
                raise BenchError(f"{stack.variant} passes no exchanges: {error}; logs: {stack.state}") from None
            await asyncio.sleep(0.2)
        else:
            return


async def recorded(stack: Stack) -> int:
    """Return how many exchanges the store has as completed, once it gets no more: what ended is shipped to it."""
    counts = [_counted(stack)]
    while len(counts) <= _SHIPPED_SECONDS or counts[-1] != counts[-1 - _SHIPPED_SECONDS]:
        await asyncio.sleep(1)
        counts.append(_counted(stack))
    if stack.variant in PEERS:
        return counts[-1]
    return _counted(stack, f"{_EXCHANGES} AND json_extract(CAST(head AS TEXT), '$.facts.outcome') = 'completed'")


def _counted(stack: Stack, query: str = _EXCHANGES) -> int:
    if stack.variant in PEERS:
        return peers.recorded(stack.state)
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
