"""The real gateway on free ports: real Envoy, real `extproc serve`, the dev issuer, a scripted upstream."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from extproc.carrier import TransportName
from extproc.dev import files, idp, keys, runner, users, web
from extproc.store.sqlite_archive import SqliteArchive
from tests.e2e.upstream import Upstream

READY_SECONDS = 30

TRANSPORT: TransportName = "grpc" if os.environ.get("TRANSPORT") == "grpc" else "http2"
"""What the service under test carries Envoy's streams with (`make test-transports`)."""


# Below the range from which the system takes ports for outgoing connections (Linux: 32768), one of which could take a
# port between our look and its use; and elsewhere in each process, for those that look at the same time.
_START = os.getpid() * 7919 % 22_000
_CANDIDATES = itertools.cycle(10_000 + (_START + number) % 22_000 for number in range(22_000))


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody uses, and that this process did not return a while ago."""
    found: list[int] = []
    while len(found) < count:
        port = next(_CANDIDATES)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


async def until(condition: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    """Poll until the condition gives something true: for what happens in other processes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        await asyncio.sleep(0.01)
    return value


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


class Gateway:
    def __init__(self) -> None:
        # Short, because a unix socket's path has at most 107 bytes.
        self.state = Path(tempfile.mkdtemp(prefix="extproc-"))
        self.ports = files.Ports(*free_ports(len(fields(files.Ports))))
        self.upstream = Upstream()
        self.envoy: asyncio.subprocess.Process | None = None
        self.service: asyncio.subprocess.Process | None = None
        self.session = aiohttp.ClientSession()
        self._issuer: asyncio.Task[None] | None = None
        self.key = keys.load_or_create(self.state / "issuer.pem")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def socket(self) -> Path:
        return self.state / files.SOCKET

    @property
    def credential(self) -> str:
        return (self.state / "github-token").read_text().strip()

    async def prepare(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Write all files; `change` may edit the Envoy configuration."""
        await self.upstream.start()
        files.prepare(self.state, self.ports, f"http://127.0.0.1:{self.upstream.port}", now=time.time())
        self.configure(transport=TRANSPORT)
        if change is not None:
            path = self.state / "envoy.yaml"
            config = yaml.safe_load(path.read_text())
            change(config)
            path.write_text(yaml.safe_dump(config))
        app = idp.make_app(
            self.key, issuer=self.ports.issuer_url, audience=files.AUDIENCE, users=users.DEMO_USERS, now=time.time
        )
        self._issuer = asyncio.create_task(web.run(app, "127.0.0.1", self.ports.issuer))

    def configure(self, **settings: Any) -> None:
        """Change top-level entries of the service's settings, before it starts."""
        path = self.state / "gateway.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))

    async def start(self) -> None:
        await self.start_service()
        await self.start_envoy()

    async def start_service(self) -> None:
        await self.launch_service()
        await self.ready(f"http://127.0.0.1:{self.ports.ops}/readyz")

    async def launch_service(self) -> None:
        """Start the service, and do not wait until it takes exchanges."""
        with (self.state / "serve.log").open("ab") as log:
            self.service = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "extproc", "serve", "--config", str(self.state / "gateway.yaml"),
                cwd=self.state, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )  # fmt: skip

    async def start_envoy(self) -> None:
        with (self.state / "envoy.log").open("ab") as log:
            self.envoy = await asyncio.create_subprocess_exec(
                runner.envoy_binary(), "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--disable-hot-restart",
                "--file-flush-interval-msec", "100",
                cwd=self.state, stdout=log, stderr=log,
            )  # fmt: skip
        await self.ready(f"http://127.0.0.1:{self.ports.admin}/ready")

    async def ready(self, url: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                async with self.session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
        logs = "".join(path.read_text(errors="replace")[-3000:] for path in self.state.glob("*.log"))
        raise AssertionError(f"{url} is not ready:\n{logs}")

    async def kill_service(self) -> None:
        """End the service as a crash would, and start another one."""
        assert self.service is not None
        self.service.kill()
        await self.service.wait()

    async def command(self, *arguments: str, state: Path | None = None) -> Ran:
        """Run `extproc` on the state directory, or on another one, in a process of its own."""
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "extproc", *arguments, "--state-dir", str(state or self.state),
            cwd=self.state, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200"},
        )  # fmt: skip
        out, err = await asyncio.wait_for(running.communicate(), 60)
        assert running.returncode is not None
        return Ran(running.returncode, out.decode(), err.decode())

    async def readiness(self) -> tuple[int, str]:
        """Return what /readyz answers."""
        async with self.session.get(f"http://127.0.0.1:{self.ports.ops}/readyz") as response:
            return response.status, await response.text()

    async def stop_service(self) -> None:
        """End the service as an operator would."""
        assert self.service is not None
        self.service.terminate()
        assert await asyncio.wait_for(self.service.wait(), 40) == 0

    async def stop(self) -> None:
        for process in (self.service, self.envoy):
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), 40)
        if self._issuer is not None:
            self._issuer.cancel()
            await asyncio.gather(self._issuer, return_exceptions=True)
        await self.upstream.stop()
        await self.session.close()
        # aiohttp closes its sockets in the next turns of the loop (its documentation, "Graceful Shutdown").
        await asyncio.sleep(0.05)
        shutil.rmtree(self.state)

    # --- what tests say and look at ------------------------------------------------------------------------------

    def token(self, user: str = "alice", **claims: Any) -> str:
        return keys.mint(
            self.key, issuer=self.ports.issuer_url, audience=files.AUDIENCE, user=user,
            groups=users.DEMO_USERS[user], now=time.time(), extra=claims,
        )  # fmt: skip

    def headers(self, user: str = "alice") -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(user)}", "content-type": "application/json"}

    def chat(self, *, stream: bool = False, text: str = "hi", user: str = "alice", **fields: Any) -> Any:
        """Open a chat request; an async context manager of the response."""
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": text}], "stream": stream, **fields}
        return self.session.post(f"{self.url}/chat/completions", headers=self.headers(user), data=json.dumps(body))

    async def document(self, decision_id: str) -> dict[str, Any]:
        """Return the record of an exchange; it is in the store a moment after the client's view."""
        archive = SqliteArchive(self.state / "record.db")
        found: dict[str, Any] = await until(lambda: archive.exchange(decision_id), f"the record of {decision_id}")
        return found

    def documents(self) -> list[dict[str, Any]]:
        archive = SqliteArchive(self.state / "record.db")
        return [document for row in archive.sessions() for document in archive.session(row.id)]

    def access_log(self) -> list[dict[str, Any]]:
        lines = (self.state / "envoy.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def decision_id(response: aiohttp.ClientResponse) -> str:
    return response.headers["x-gateway-decision-id"]
