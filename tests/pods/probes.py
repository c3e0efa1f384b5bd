"""Probes as kubelet runs them: from the node, each on its own period, counted up to its thresholds."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from tests.pods.strict import Object, known, must_be, one_of

Exec = Callable[[list[str]], Awaitable[int]]


@dataclass
class Probe:
    """One probe of a container; `ask` does it once."""

    ask: Callable[[], Awaitable[bool]]
    initial: float
    period: float
    successes: int
    failures: int


def read(what: str, spec: Object, ports: dict[str, int], address: str, node: Executor, execute: Exec) -> Probe:
    known(
        what, spec, "httpGet", "tcpSocket", "exec", "initialDelaySeconds", "periodSeconds", "timeoutSeconds",
        "successThreshold", "failureThreshold",
    )  # fmt: skip
    timeout = float(spec.get("timeoutSeconds", 1))
    match kind := one_of(what, spec, ("httpGet", "tcpSocket", "exec")):
        case "exec":
            command = known(what, spec[kind], "command")["command"]

            async def ask() -> bool:
                try:
                    return await asyncio.wait_for(execute(command), timeout) == 0
                except TimeoutError:
                    return False
        case _:
            target = known(what, spec[kind], "path", "port", "scheme")
            must_be(f"{what}: scheme", target.get("scheme", "HTTP"), "HTTP")
            port = ports[target["port"]] if isinstance(target["port"], str) else target["port"]
            check = (
                http_get(address, port, target.get("path", "/"), timeout)
                if kind == "httpGet"
                else tcp(address, port, timeout)
            )

            async def ask() -> bool:
                return await asyncio.get_running_loop().run_in_executor(node, check)

    return Probe(
        ask,
        initial=float(spec.get("initialDelaySeconds", 0)),
        period=float(spec.get("periodSeconds", 10)),
        successes=spec.get("successThreshold", 1),
        failures=spec.get("failureThreshold", 3),
    )


def http_get(address: str, port: int, path: str, timeout: float) -> Callable[[], bool]:
    def check() -> bool:
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        try:
            connection.request("GET", path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def tcp(address: str, port: int, timeout: float) -> Callable[[], bool]:
    def check() -> bool:
        try:
            socket.create_connection((address, port), timeout).close()
        except OSError:
            return False
        return True

    return check


async def watch(probe: Probe, became: Callable[[bool], None]) -> None:
    """Run a probe for ever; tell when it has succeeded or failed often enough, each time that changes."""
    await asyncio.sleep(probe.initial)
    state, same, last = None, 0, None
    while True:
        good = await probe.ask()
        same = same + 1 if good == last else 1
        last = good
        if good != state and same >= (probe.successes if good else probe.failures):
            state = good
            became(good)
        await asyncio.sleep(probe.period)


async def passed(probe: Probe) -> bool:
    """Run a startup probe until it succeeds, or has failed too often."""
    await asyncio.sleep(probe.initial)
    for _ in range(probe.failures):
        if await probe.ask():
            return True
        await asyncio.sleep(probe.period)
    return False
