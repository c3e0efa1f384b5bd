"""Put the service together and run it: `extproc serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from extproc.config import Config, EntraSettings
from extproc.credentials.provider import Credentials
from extproc.credentials.source import FileSource
from extproc.errors import ConfigError, Refused
from extproc.keys.fingerprint_key import FILE_NAME, load_or_create_key
from extproc.keys.graph import Graph
from extproc.keys.verifier import Verifier
from extproc.masking import detector
from extproc.masking.detector import RuleSet
from extproc.masking.fingerprint import Fingerprints
from extproc.masking.masker import Masking
from extproc.masking.policy import SECRETS
from extproc.metrics import Metrics
from extproc.operations import make_app
from extproc.processor import Bounds, Processor, exchange_id
from extproc.recording.session import Sessions
from extproc.rules import Rules
from extproc.server import Server
from extproc.store.sqlite import SqliteRecorder

log = logging.getLogger("extproc.serve")


async def serve(config: Config, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(config, environ):
        log.info("serving", extra={"fields": {"listen": config.settings.listen, "pid": os.getpid()}})
        await stop.wait()
        log.info("draining")
    log.info("stopped")


@asynccontextmanager
async def running(config: Config, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Run the service; leaving drains it."""
    clock = steady_clock()
    async with AsyncExitStack() as stack:
        # No cookies and no proxy of the environment: what is asked here decides who gets in and with what credential.
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        verifier = Verifier(config.issuers, session=session, now=clock, graph=_graph(config, session, clock))
        stack.push_async_callback(verifier.aclose)
        credentials = Credentials(config.credentials, environ=environ, session=session, now=clock)
        stack.push_async_callback(credentials.aclose)
        recorder = SqliteRecorder(
            config.base / config.settings.store.sqlite, instance=exchange_id(clock()), now=clock()
        )
        stack.push_async_callback(recorder.aclose)
        if recorder.interrupted:
            log.warning("closed exchanges of a process that died", extra={"fields": {"count": recorder.interrupted}})
        limits = config.settings.limits
        bounds = Bounds(
            max_exchanges=limits.max_exchanges,
            idle_seconds=limits.idle_seconds,
            total_seconds=limits.total_seconds,
            drain_seconds=limits.drain_seconds,
        )
        metrics = Metrics()
        processor = Processor(
            rules=_rules(config, _masking(config)),
            identities=verifier,
            credentials=credentials,
            recorder=recorder,
            metrics=metrics,
            bounds=bounds,
            now=clock,
        )
        server = Server(processor, bounds, addresses=_sockets(config))
        await server.start()
        stack.push_async_callback(server.stop)
        watchdog = asyncio.create_task(server.watch())
        stack.callback(watchdog.cancel)
        await _operations(stack, config.settings.operations, metrics, lambda: not processor.draining)
        yield


def steady_clock() -> Callable[[], float]:
    """Return a clock in unix seconds that never runs backwards: the start's wall time plus monotonic time."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


def _masking(config: Config) -> Masking:
    policy, settings = config.policy.masking, config.settings
    # The gateway's own credentials and private keys are looked for whatever the policy says, so secrets always load.
    sets = {one.name: one.file for one in policy.in_use()} | {SECRETS: None}
    found_by = detector.load([RuleSet(name, file) for name, file in sets.items()], config.base / settings.rule_cache)
    key = load_or_create_key((config.base / settings.store.sqlite).with_name(FILE_NAME))
    return Masking(found_by, policy, Fingerprints(key))


def _rules(config: Config, masking: Masking) -> Rules:
    limits = config.settings.limits
    return Rules(
        policy=config.policy,
        masking=masking,
        upstream_hosts=config.upstream_hosts,
        max_request_bytes=limits.max_request_bytes,
        max_answer_bytes=limits.max_answer_bytes,
        max_event_bytes=limits.max_event_bytes,
        sessions=Sessions(gap_seconds=limits.session_gap_seconds),
    )


def _graph(config: Config, session: aiohttp.ClientSession, clock: Callable[[], float]) -> Graph | None:
    entra = [one for one in config.settings.issuers if isinstance(one, EntraSettings) and one.graph is not None]
    if len(entra) > 1:
        raise ConfigError("issuers: at most one Entra entry may have `graph`")
    for one in entra:
        if one.graph is not None:
            try:
                secret = FileSource("graph", config.base / one.graph.client_secret_file).read()
            except Refused as refused:
                raise ConfigError(f"issuers: graph.client_secret_file: {refused.refusal.message}") from None
            return Graph(
                session=session,
                now=clock,
                client_id=one.graph.client_id,
                client_secret=secret,
                login_base=one.login_base,
                graph_base=one.graph_base,
            )
    return None


def _sockets(config: Config) -> list[str]:
    """Return the addresses to listen on; a relative socket is in the settings file's folder."""
    addresses = []
    for address in config.settings.listen:
        if address.startswith("unix:"):
            # Relative to where we run, since a socket's path has at most 107 bytes.
            path = Path(os.path.relpath(config.base / address.removeprefix("unix:")))
            clear_socket(path)
            addresses.append(f"unix:{path}")
        else:
            addresses.append(address)
    return addresses


def clear_socket(path: Path) -> None:
    """Remove the socket of a process that died; raises ConfigError for anything else that is in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        if not path.is_socket():
            raise ConfigError(f"listen: {path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise ConfigError(f"listen: another process serves {path}")
        path.unlink()
    except OSError as failure:
        raise ConfigError(f"listen: cannot use {path}: {failure.strerror}") from failure


async def _operations(stack: AsyncExitStack, address: str, metrics: Metrics, ready: Callable[[], bool]) -> None:
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(make_app(metrics, ready), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, int(port)).start()
    except OSError as failure:
        raise ConfigError(f"operations: cannot listen on {address}: {failure.strerror}") from failure
