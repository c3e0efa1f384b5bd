"""What the forward proxy costs against URL mode: opening a tunnel, holding a thousand, an exchange in a warm one.

Both modes pass the same Envoy and service, over TLS with a certificate of the development CA, with the same client.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from bench import procfs
from bench.client import BenchError, Connection, Samples, finished, request
from bench.spread import spread
from bench.stack import Stack, recorded, stacks
from bench.upstream import ANSWERS
from bench.ways import Variant

_RESULTS = Path(__file__).parent / "results"
_HOST = "api.githubcopilot.com"
_ANSWER = "plain"
_STALL_SECONDS = 30.0
_IDLE = 1000
_AT_ONCE = 32
_FILES_A_TUNNEL = 4
"""One here, and in Envoy, which inherits the limit, both ends of what is inside."""
TARGET = 0.8

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Mode(StrEnum):
    """How the client gets to the gateway."""

    TUNNEL = "tunnel"
    HTTPS = "https"
    HTTP = "http"


@dataclass(slots=True)
class Figures:
    """What was measured in one mode: seconds until TLS stood and until the first answer; per round the rest."""

    stood: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    service_us: list[float] = field(default_factory=list)
    envoy_us: list[float] = field(default_factory=list)
    exchanges: int = 0


class Client:
    """Open connections in each mode; all send the same request."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._asked = request(_ANSWER, token)
        self._tls = ssl.create_default_context(cafile=str(stack.state / "ca" / "ca.pem"))
        # The gateway's own name in URL mode, that of the API in a tunnel.
        self._names = {Mode.TUNNEL: _HOST, Mode.HTTPS: "localhost"}
        identity = base64.b64encode(f"bench:{token}".encode()).decode()
        self._connect = (
            f"CONNECT {_HOST}:443 HTTP/1.1\r\nhost: {_HOST}:443\r\nproxy-authorization: Basic {identity}\r\n\r\n"
        ).encode()

    async def open(self, mode: Mode, samples: Samples, deadline: float) -> Connection:
        """Open a connection, which asks at once and until the deadline (a `time.perf_counter`)."""
        _, connection = await self._over(mode, lambda: Connection(self._asked, ANSWERS[_ANSWER], samples, deadline))
        return connection

    async def idle(self) -> asyncio.BaseTransport:
        """Open a tunnel with TLS inside, through which nothing goes."""
        transport, _ = await self._over(Mode.TUNNEL, asyncio.Protocol)
        return transport

    async def _over(self, mode: Mode, protocol: Callable[[], _Protocol]) -> tuple[asyncio.BaseTransport, _Protocol]:
        loop = asyncio.get_running_loop()
        ports = {Mode.TUNNEL: "proxy", Mode.HTTPS: "https", Mode.HTTP: "http"}
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - it takes no keyword
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, ("127.0.0.1", getattr(self._stack.ports, ports[mode])))
        if mode is Mode.TUNNEL:
            await self._tunnel(loop, sock)
        if mode is Mode.HTTP:
            return await loop.create_connection(protocol, sock=sock)
        return await loop.create_connection(protocol, sock=sock, ssl=self._tls, server_hostname=self._names[mode])

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        await loop.sock_sendall(sock, self._connect)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = await loop.sock_recv(sock, 4096)
            answer += piece
            if not piece or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
                raise BenchError(f"no tunnel: {answer!r}")


async def _first(client: Client, mode: Mode, figures: Figures) -> None:
    """Open a connection for one exchange."""
    began, samples = time.perf_counter(), Samples()
    connection = await client.open(mode, samples, 0.0)
    await finished([connection], _STALL_SECONDS)
    ended = time.perf_counter()
    figures.stood.append(ended - began - samples.whole[0])
    figures.answered.append(ended - began)
    figures.exchanges += 1


async def _warm(client: Client, stack: Stack, mode: Mode, figures: Figures, seconds: float) -> None:
    """Ask on one connection, again as soon as it is answered, with the opening left out."""
    samples, before = Samples(), _cpu(stack)
    connection = await client.open(mode, samples, time.perf_counter() + seconds)
    await finished([connection], seconds + _STALL_SECONDS)
    after, count = _cpu(stack), len(samples.whole)
    # The first one meets what is cold: a connection to the upstream, perhaps.
    figures.per_second.append((count - 1) / sum(samples.whole[1:]))
    figures.service_us.append((after[0] - before[0]) / count * 1e6)
    figures.envoy_us.append((after[1] - before[1]) / count * 1e6)
    figures.exchanges += count


def _cpu(stack: Stack) -> tuple[float, float]:
    if stack.service is None:
        raise ValueError("no service to measure")
    return procfs.cpu_seconds(stack.service), procfs.cpu_seconds(stack.envoy)


async def _hold(client: Client, stack: Stack, count: int) -> dict[str, Any]:
    """Hold idle tunnels, and return the memory (bytes) of Envoy and service before and meanwhile."""
    if stack.service is None:
        raise ValueError("no service to measure")
    processes = {"envoy": stack.envoy, "service": stack.service}
    before = {name: procfs.rss_bytes(pid) for name, pid in processes.items()}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def opened() -> asyncio.BaseTransport:
        async with gate:
            return await client.idle()

    began = time.perf_counter()
    held = await asyncio.gather(*(opened() for _ in range(count)))
    took = time.perf_counter() - began
    samples = Samples()
    while_held = await client.open(Mode.TUNNEL, samples, time.perf_counter() + 1.0)
    await finished([while_held], _STALL_SECONDS)
    if closing := sum(one.is_closing() for one in held):
        raise BenchError(f"{closing} of {count} idle tunnels were closed")
    during = {name: procfs.rss_bytes(pid) for name, pid in processes.items()}
    for one in held:
        one.close()
    return {
        "tunnels": count,
        "opened_per_second": count / took,
        "before": before,
        "during": during,
        "exchanges": len(samples.whole),
        "p50_ms": median(samples.whole) * 1000,
    }


async def _run(state: Path, *, quick: bool) -> dict[str, Any]:
    firsts, rounds, seconds = (60, 3, 1.5) if quick else (300, 7, 4.0)
    async with stacks(state, [Variant.OURS]) as running:
        stack = running.ways[Variant.OURS]
        client, figures = Client(stack, running.token), {mode: Figures() for mode in Mode}
        warming = {mode: Figures() for mode in Mode}
        for mode in Mode:
            await _warm(client, stack, mode, warming[mode], 1.0)
        held = await _hold(client, stack, _IDLE)
        for _ in range(firsts):
            for mode in Mode:
                await _first(client, mode, figures[mode])
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for mode in Mode:
                await _warm(client, stack, mode, figures[mode], seconds)
        count = 1 + held["exchanges"] + sum(one.exchanges for one in (*figures.values(), *warming.values()))
        if (found := await recorded(stack)) != count:
            raise BenchError(f"{count} exchanges were completed but {found} were recorded as such; state: {state}")
    return _results(figures, held)


def _results(figures: dict[Mode, Figures], held: dict[str, Any]) -> dict[str, Any]:
    tunnel, url = figures[Mode.TUNNEL], figures[Mode.HTTPS]
    # Round by round: what disturbs the machine then disturbs both.
    ratios = {mode: _each(tunnel.per_second, figures[mode].per_second) for mode in (Mode.HTTPS, Mode.HTTP)}
    added = [one - other for one, other in zip(tunnel.answered, url.answered, strict=True)]
    return {
        "modes": {
            mode: {
                "stood_p50_ms": median(one.stood) * 1000,
                "first_p50_ms": median(one.answered) * 1000,
                "exchanges_per_second": median(one.per_second),
                "service_cpu_us": median(one.service_us),
                "envoy_cpu_us": median(one.envoy_us),
            }
            for mode, one in figures.items()
        },
        "added_p50_ms": median(added) * 1000,
        "ratio": {mode: spread(of)._asdict() for mode, of in ratios.items()},
        "target": TARGET,
        "met": median(ratios[Mode.HTTPS]) >= TARGET,
        "idle": held,
    }


def _each(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


_ROWS = (
    ("stood_p50_ms", "connection stands p50, ms"),
    ("first_p50_ms", "first answer on a new connection p50, ms"),
    ("exchanges_per_second", "exchanges per second, one warm connection"),
    ("service_cpu_us", "CPU of the service per exchange, µs"),
    ("envoy_cpu_us", "CPU of Envoy per exchange, µs"),
)


def table(found: dict[str, Any]) -> str:
    """Return the table people read."""
    held, ratio = found["idle"], found["ratio"]
    lines = ["", f"{'':46}" + "".join(f"{mode:>10}" for mode in Mode)]
    for key, title in _ROWS:
        lines.append(f"  {title:44}" + "".join(f"{found['modes'][mode][key]:>10.1f}" for mode in Mode))
    lines.append(
        f"  {'a CONNECT adds, p50 of pairs':44}{found['added_p50_ms']:>+10.1f} ms to a first answer over https"
    )
    for mode in (Mode.HTTPS, Mode.HTTP):
        one = ratio[mode]
        verdict = f"   target ≥ {TARGET:g}: {'met' if found['met'] else 'MISSED'}" if mode is Mode.HTTPS else ""
        title = f"exchanges per second, tunnel against {mode}"
        lines.append(f"  {title:44}{'x':>5}{one['median']:>5.2f} ({one['min']:.2f} to {one['max']:.2f}){verdict}")
    lines.append(f"{held['tunnels']:,} idle tunnels, opened at {held['opened_per_second']:.0f} a second")
    for name in held["before"]:
        before, during = held["before"][name] / 2**20, held["during"][name] / 2**20
        each = (held["during"][name] - held["before"][name]) / held["tunnels"] / 1024
        title = f"memory of {name}, MiB"
        lines.append(f"  {title:44}{before:>10.1f} before, {during:.1f} with them: {each:.1f} KiB each")
    lines.append(f"  {'exchange in another tunnel meanwhile p50, ms':44}{held['p50_ms']:>10.1f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print the table and write results/tunnels.json; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.tunnels", description="Measure the forward proxy.")
    parser.add_argument("--quick", action="store_true", help="few short rounds: about half a minute")
    quick = parser.parse_args().quick
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _IDLE * _FILES_A_TUNNEL:
        print(f"bench: {_IDLE} tunnels need {_IDLE * _FILES_A_TUNNEL} files, this shell allows {hard}", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _RESULTS.mkdir(exist_ok=True)
    # Beside the results, not in /tmp, which may be memory: what is recorded has to reach a disk.
    state = Path(tempfile.mkdtemp(prefix="state-", dir=_RESULTS))
    try:
        found = asyncio.run(_run(state, quick=quick))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(state)
        return 130
    shutil.rmtree(state)
    (_RESULTS / "tunnels.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"\nwritten to {_RESULTS / 'tunnels.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
