from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from extproc.errors import ConfigError
from extproc.feed.file import FileTarget
from extproc.feed.port import Target
from extproc.feed.spec import FeedSpec, FileSpec, SyslogSpec, WebhookSpec, target_of
from extproc.feed.syslog import SyslogTarget, Tcp, Udp, Unix
from extproc.feed.webhook import WebhookTarget
from extproc.secret import Secret

CURSOR = Path("cursor")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (FileSpec(Path("f")), FileTarget),
        (SyslogSpec(Udp("siem.example")), SyslogTarget),
        (SyslogSpec(Tcp("siem.example")), SyslogTarget),
        (SyslogSpec(Unix(), hostname="gateway-1"), SyslogTarget),
        (WebhookSpec(Secret("https://siem.example/s3cret"), Secret("k" * 32)), WebhookTarget),
    ],
)
async def test_each_setting_is_a_target_of_its_kind_and_name(
    spec: FileSpec | SyslogSpec | WebhookSpec, expected: type[Target]
) -> None:
    async with aiohttp.ClientSession() as session:
        target = target_of(FeedSpec("feeds[1]", spec, CURSOR), session=session, now=lambda: 0.0)
    assert isinstance(target, expected)
    assert target.name == "feeds[1]"
    assert "s3cret" not in repr(spec)


async def test_a_target_that_cannot_be_is_refused_at_the_start() -> None:
    spec = FeedSpec("feeds[0]", SyslogSpec(Unix(), hostname="a b"), CURSOR)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match="hostname"):
            target_of(spec, session=session, now=lambda: 0.0)
