"""Put the service together and run it: `extproc serve`."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from extproc import stores
from extproc.approval.waiting import Waiting
from extproc.config import Config
from extproc.credentials.provider import Credentials
from extproc.errors import ConfigError
from extproc.exchange_id import exchange_id
from extproc.handover import Signals, Sockets, clear_socket, leave, operations_socket
from extproc.identities import graph_of
from extproc.identity.gateway_token import GatewayTokens
from extproc.intercepted import intercepted_hosts
from extproc.keys import gateway_token_key
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.keys.verifier import Verifier
from extproc.masking import detector
from extproc.masking.detector import RuleSet
from extproc.masking.fingerprint import Fingerprints
from extproc.masking.masker import Masking
from extproc.masking.policy import SECRETS
from extproc.metrics import Metrics, State
from extproc.metrics_labels import labels_of
from extproc.metrics_shared import FOLDER_VARIABLE
from extproc.notify import channels
from extproc.notify.notice import Channel
from extproc.notify.notifier import Notifier
from extproc.notify.webhook import Webhook, read_key
from extproc.operations import make_app, watch
from extproc.outside import Bounds, Outside
from extproc.processor import Processor
from extproc.recorder import recording
from extproc.recording.session import Sessions
from extproc.relative import short
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.server import Server
from extproc.siblings import Siblings
from extproc.spool import folders
from extproc.spool.spool import Spool

log = logging.getLogger("extproc.serve")


async def serve(config: Config, environ: Mapping[str, str], worker: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; `worker` is the number of one of several (`extproc.workers`)."""
    told = Signals(is_alone=worker is None)
    told.listen()
    async with running(config, environ, worker) as service:
        # What is loaded stays: looking through it for garbage stops every stream for some 50 ms.
        gc.collect()
        gc.freeze()
        # What exchanges leave behind is little, and mostly not in circles.
        gc.set_threshold(10_000, 20, 100)
        listen = config.settings.listen_of(worker or 0)
        log.info("serving", extra={"fields": {"listen": listen, "pid": os.getpid()}})
        await told.leave.wait()
        if not told.end.is_set():
            await leave(
                service.server,
                lambda: service.processor.open_exchanges,
                told.end,
                is_replaced=service.sockets.taken_over,
                # gRPC refuses what Envoy sent before it heard that it is to go: it must be led elsewhere before.
                must_be_lame=config.settings.transport == "grpc",
                bound_seconds=config.settings.limits.total_seconds,
            )
        log.info("draining")
    log.info("stopped")


@dataclass(frozen=True, slots=True)
class Service:
    """What a signal acts on while the service runs."""

    server: Server
    processor: Processor
    sockets: Sockets


@asynccontextmanager
async def running(config: Config, environ: Mapping[str, str], worker: int | None = None) -> AsyncIterator[Service]:
    """Run the service; leaving drains it."""
    clock = steady_clock()
    number = worker or 0
    siblings = None if worker is None else Siblings(config.socket_folder, f"{worker}-{os.getpid()}")
    async with AsyncExitStack() as stack:
        metrics = _metrics(config, environ)
        # Last of all, so that it has the exchanges of the drain.
        stack.callback(metrics.settle)
        # No cookies and no proxy of the environment: what is asked here decides who gets in and with what credential.
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        tokens = GatewayTokens(gateway_token_key.load_keys(config.places.gateway_token_key))
        verifier = Verifier(
            config.issuers,
            session=session,
            now=clock,
            graph=graph_of(config, session, clock),
            gateway_tokens=tokens,
        )
        stack.push_async_callback(verifier.aclose)
        credentials = Credentials(config.credentials, environ=environ, session=session, now=clock)
        stack.push_async_callback(credentials.aclose)
        instance = exchange_id(clock())
        recorded = await stack.enter_async_context(
            recording(
                config.places, epoch=instance, worker=str(number), session=session, now=clock, wrote=metrics.wrote
            )
        )
        limits = config.settings.limits
        log_name = folders.log_name(config.places.recording.replica, str(number), instance)
        approvals = stores.approvals_of(config.places, stack, instance=log_name, now=clock)
        notifier = _notifier(config, session, clock)
        stack.push_async_callback(notifier.aclose)
        waiting = Waiting(
            approvals,
            clock,
            limits.max_waiting,
            poll_seconds=stores.approvals_poll_seconds(config.places),
            notify=notifier,
            on_ended=metrics.approval_ended,
        )
        stack.push_async_callback(waiting.aclose)
        bounds = Bounds(
            max_exchanges=limits.max_exchanges,
            idle_seconds=limits.idle_seconds,
            total_seconds=limits.total_seconds,
            drain_seconds=limits.drain_seconds,
        )

        def state() -> State:
            return State(
                recorded.state(),
                is_ready=_fault(processor, recorded.spool) is None,
                approvals_waiting=len(waiting),
                approval_oldest_seconds=waiting.oldest_seconds,
                credentials=credentials.state(),
                keys=verifier.key_states(),
            )

        outside = Outside(
            rules=_rules(config, _masking(config), tokens),
            identities=verifier,
            credentials=credentials,
            approvers=waiting,
            recorder=recorded.spool,
            metrics=metrics,
            bounds=bounds,
            now=clock,
        )
        processor = Processor(outside, hand_on=_to_nobody if siblings is None else siblings.tell)
        if siblings is not None:
            stack.enter_context(siblings.listening(processor.handed_on))
        app = make_app(metrics, lambda: _fault(processor, recorded.spool), state)
        operations = web.AppRunner(app, access_log=None)
        await operations.setup()
        # It goes after the server, so that it tells of the drain.
        stack.push_async_callback(operations.cleanup)
        addresses, sockets = _sockets(config, worker)
        server = Server(processor, bounds, addresses=addresses, transport=config.settings.transport)
        await server.start()
        stack.push_async_callback(server.stop)
        for task in (server.watch(), watch(metrics, state)):
            stack.callback(asyncio.create_task(task).cancel)
        await _listen(operations, config, worker)
        # In the same turn of the loop: who hears that it lives knows that it has taken over.
        sockets.take_over()
        yield Service(server, processor, sockets)


def _to_nobody(_message: bytes) -> None:
    """Take what Envoy says of exchanges that are not ours, where there is no other worker."""


def _metrics(config: Config, environ: Mapping[str, str]) -> Metrics:
    folder = environ.get(FOLDER_VARIABLE)
    try:
        metrics = Metrics(labels_of(config.policy), shared=None if folder is None else Path(folder))
    except OSError as failure:
        raise ConfigError(f"{FOLDER_VARIABLE}: cannot use {folder}: {failure.strerror}") from failure
    metrics.describe(importlib.metadata.version("copilot-extproc"), config.policy.digest)
    return metrics


def _fault(processor: Processor, spool: Spool) -> str | None:
    """Return why no exchange can be taken."""
    return "draining" if processor.draining else spool.fault


def steady_clock() -> Callable[[], float]:
    """Return a clock in unix seconds that never runs backwards: the start's wall time plus the time since."""
    # One that goes on while the machine sleeps, where there is one (clock_gettime(2)): tokens expire meanwhile.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    offset = time.time() - time.clock_gettime(clock)
    return lambda: time.clock_gettime(clock) + offset


def _masking(config: Config) -> Masking:
    policy, settings = config.policy.masking, config.settings
    # The gateway's own credentials and private keys are looked for whatever the policy says, so secrets always load.
    sets = {one.name: one.file for one in policy.in_use()} | {SECRETS: None}
    found_by = detector.load([RuleSet(name, file) for name, file in sets.items()], config.base / settings.rule_cache)
    key = load_or_create_key(config.places.fingerprint_key)
    return Masking(found_by, policy, Fingerprints(key))


def _rules(config: Config, masking: Masking, tokens: GatewayTokens) -> Rules:
    limits = config.settings.limits
    profile = config.profile()
    return Rules(
        policy=config.policy,
        masking=masking,
        upstream_hosts=config.upstream_hosts,
        max_request_bytes=limits.max_request_bytes,
        max_answer_bytes=limits.max_answer_bytes,
        max_event_bytes=limits.max_event_bytes,
        sessions=Sessions(gap_seconds=limits.session_gap_seconds),
        intercepted=intercepted_hosts(config.settings.proxy.hosts),
        profile=None if profile is None else msgspec.json.encode(profile),
        gateway_tokens=tokens,
        url=config.url,
    )


def _notifier(config: Config, session: aiohttp.ClientSession, clock: Callable[[], float]) -> Notifier:
    settings = config.settings.notifications
    found: list[Channel] = []
    for number, one in enumerate(settings.webhooks):
        name = f"webhooks[{number}]"
        try:
            key = read_key(config.base / one.key_file)
        except ConfigError as error:
            raise ConfigError(f"notifications: {name}.{error}") from None
        found.append(Webhook(name, Secret(one.url), key, session=session, now=clock))
    if settings.apprise_file is not None:
        # Threads of its own: a service that hangs must not take those that mask large bodies.
        threads = ThreadPoolExecutor(4, thread_name_prefix="apprise")
        found.extend(channels.load(config.base / settings.apprise_file, threads))
    return Notifier(found, settings.link)


def _sockets(config: Config, worker: int | None) -> tuple[list[str], Sockets]:
    """Return the addresses to listen on, and which sockets are to be taken over from the worker before."""
    addresses: list[str] = []
    paths: list[Path] = []
    for address in config.settings.listen_of(worker or 0):
        if not address.startswith("unix:"):
            addresses.append(address)
        elif worker is None:
            clear_socket(path := socket_path(config, address))
            addresses.append(f"unix:{short(path)}")
        else:
            paths.append(socket_path(config, address))
    try:
        sockets = Sockets(paths)
    except OSError as failure:
        raise ConfigError(f"listen: cannot use {failure.filename}: {failure.strerror}") from failure
    return [*addresses, *sockets.addresses], sockets


def socket_path(config: Config, address: str) -> Path:
    """Return the path of a unix socket; a relative one is in the settings file's folder."""
    return config.base / address.removeprefix("unix:")


async def _listen(operations: web.AppRunner, config: Config, worker: int | None) -> None:
    """Listen on the address of the settings; one of several workers does so for who supervises it."""
    if worker is None:
        await listen_on(operations, config.settings.operations)
        return
    path = operations_socket(config.socket_folder, worker, os.getpid())
    try:
        await web.UnixSite(operations, short(path)).start()
    except OSError as failure:
        raise ConfigError(f"listen: cannot listen on {path}: {failure.strerror}") from failure


async def listen_on(operations: web.AppRunner, address: str) -> None:
    """Serve at HOST:PORT; raises ConfigError."""
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(operations, host, int(port)).start()
    except OSError as failure:
        raise ConfigError(f"operations: cannot listen on {address}: {failure.strerror}") from failure
