"""`extproc feed`: tell what is recorded to files, syslog and webhooks as it comes, for a SIEM."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, assert_never
from urllib.parse import urlsplit

import aiohttp
import typer

from extproc import config as config_file
from extproc import logs, stores
from extproc.config_recording import FileFeed, Places, SyslogFeed, WebhookFeed
from extproc.errors import ConfigError
from extproc.feed.feed import Feed
from extproc.feed.spec import FeedSpec, FileSpec, SyslogSpec, WebhookSpec, target_of
from extproc.feed.syslog import Tcp, Udp, Unix
from extproc.notify.webhook import read_key
from extproc.secret import Secret


def feed(config: Annotated[Path, typer.Option(help="The settings file.")] = Path("gateway.yaml")) -> None:
    """Tell the feeds of the settings what is recorded, until stopped. One such process for all replicas."""
    places = config_file.load_settings(config).places(config.parent)
    if not places.recording.feeds:
        raise ConfigError(f"{config}: recording.feeds: expected at least one feed")
    logs.configure()
    asyncio.run(_run(places))


async def _run(places: Places) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for stopping in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stopping, stop.set)
    async with AsyncExitStack() as stack:
        # No proxy of the environment, as for all that leaves the service.
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        for number, section in enumerate(places.recording.feeds):
            told = _feed(places, f"feeds[{number}]", section, session)
            stack.push_async_callback(told.aclose)
            stack.callback(asyncio.create_task(told.run()).cancel)
        await stop.wait()


def _feed(
    places: Places, name: str, section: FileFeed | SyslogFeed | WebhookFeed, session: aiohttp.ClientSession
) -> Feed:
    # Named by what is told, so that feeds may be listed in another order; the address may hold a token.
    address = hashlib.sha256(section.model_dump_json().encode()).hexdigest()[:16]
    spec = FeedSpec(name, _target(places, name, section), places.state / "feeds" / f"{section.kind}-{address}.json")
    target = target_of(spec, session=session, now=time.time)
    return Feed(partial(stores.opened_ledger, places), target, spec.cursor, now=time.monotonic)


def _target(
    places: Places, name: str, section: FileFeed | SyslogFeed | WebhookFeed
) -> FileSpec | SyslogSpec | WebhookSpec:
    match section:
        case FileFeed():
            return FileSpec(places.state / section.path)
        case SyslogFeed():
            return SyslogSpec(_transport(section.address), hostname=places.recording.replica)
        case WebhookFeed():
            try:
                key = read_key(places.state / section.key_file)
            except ConfigError as error:
                raise ConfigError(f"recording.{name}.{error}") from None
            return WebhookSpec(Secret(section.url), key)
        case _ as never:
            assert_never(never)


def _transport(address: str) -> Udp | Tcp | Unix:
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return Unix(Path(parts.path))
    kind = Udp if parts.scheme == "udp" else Tcp
    return kind(parts.hostname or "", parts.port or 0)
