"""What the settings say of a feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import aiohttp

from extproc.feed.file import FileTarget
from extproc.feed.gather import Limits
from extproc.feed.port import Target
from extproc.feed.syslog import DEFAULT_MAX_BYTES, SyslogTarget, Tcp, Udp, Unix
from extproc.feed.webhook import WebhookTarget
from extproc.secret import Secret


@dataclass(frozen=True, slots=True)
class FileSpec:
    """NDJSON, appended to a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class SyslogSpec:
    """Messages of RFC 5424."""

    transport: Udp | Tcp | Unix
    hostname: str = "-"
    max_bytes: int = DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """Signed batches over HTTP; the key as `extproc.notify.webhook.read_key` reads it."""

    url: Secret
    key: Secret


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """One feed. `name` is its place in the settings; `cursor` the file that keeps where it stands."""

    name: str
    target: FileSpec | SyslogSpec | WebhookSpec
    cursor: Path
    poll_seconds: float = 5.0
    limits: Limits = field(default_factory=Limits)


def target_of(spec: FeedSpec, *, session: aiohttp.ClientSession, now: Callable[[], float]) -> Target:
    """Return the target that a feed tells; `now` tells unix seconds. Raises ConfigError."""
    match spec.target:
        case FileSpec(path):
            return FileTarget(spec.name, path)
        case SyslogSpec(transport, hostname, max_bytes):
            return SyslogTarget(spec.name, transport, hostname=hostname, max_bytes=max_bytes)
        case WebhookSpec(url, key):
            return WebhookTarget(spec.name, url, key, session=session, now=now)
        case _ as never:
            assert_never(never)
