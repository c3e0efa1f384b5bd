"""Channels for people, through apprise: Slack, Teams, mail and whatever else it knows."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from extproc.errors import ConfigError
from extproc.notify.notice import Notice, NotSent

if TYPE_CHECKING:
    from apprise import Apprise

_MAX_BYTES: Final = 65_536
_TIMEOUT_SECONDS: Final = 30.0
_SHOWN_TOUCHES: Final = 10

# What a model or a token chose is shown with these characters only: no channel reads markup, a mention of everybody or
# a link with a scheme into them.
_UNSHOWN = re.compile(r"[^\w ./{}-]")


class AppriseChannel:
    """Send notices to the one service of an apprise URL; its blocking call runs in `threads`."""

    def __init__(self, name: str, service: Apprise, threads: ThreadPoolExecutor) -> None:
        self.name = name
        self._service = service
        self._threads = threads

    async def send(self, notice: Notice) -> None:
        """Send once; raises NotSent. It is not tried again: a service may have taken a part, and people read it."""
        title, body = text_of(notice)
        loop = asyncio.get_running_loop()
        try:
            sent = await loop.run_in_executor(self._threads, self._notify, title, body)
        except Exception as error:  # noqa: BLE001 - plug-ins of a library raise anything, and its text may quote the URL
            raise NotSent(f"apprise failed ({type(error).__name__})", again=False) from None
        if not sent:
            raise NotSent("the service did not take it", again=False)

    def _notify(self, title: str, body: str) -> bool:
        return bool(self._service.notify(body=body, title=title, body_format="text", timeout=_TIMEOUT_SECONDS))


def load(path: Path, threads: ThreadPoolExecutor) -> list[AppriseChannel]:
    """Return the channels of a file with one apprise URL per line, `#` before comments; raises ConfigError.

    The URLs hold tokens and passwords: an error names the line, never what is on it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        lines = [line.strip() for line in raw.decode().splitlines()]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes")
    channels = []
    for number, url in enumerate(lines, 1):
        if url and not url.startswith("#"):
            service = _service(url)
            if service is None:
                raise ConfigError(f"{path}:{number}: expected an apprise URL, with all that its service needs")
            channels.append(AppriseChannel(f"apprise_file line {number}", service, threads))
    if not channels:
        raise ConfigError(f"{path}: no URL in it")
    return channels


def text_of(notice: Notice) -> tuple[str, str]:
    """Return title and body for people."""
    asked = notice.event == "approval.requested"
    title = f"Approval requested: {notice.rule}" if asked else f"Approval {notice.state}: {notice.rule}"
    lines = [f"{shown(notice.requester)} asks for:" if asked else f"{shown(notice.requester)} asked for:"]
    for touch in notice.touches[:_SHOWN_TOUCHES]:
        what = " ".join(shown(one) for one in (touch.path, touch.repository, touch.branch) if one)
        lines.append(f"- {touch.act} {what or 'anything'} ({shown(touch.tool)})")
    if (left := notice.touches_total - len(lines) + 1) > 0:
        lines.append(f"- and {left} more")
    if asked:
        lines.append(f"Until {dt.datetime.fromtimestamp(notice.expires_at, dt.UTC):%Y-%m-%d %H:%M:%S} UTC.")
    lines.append(notice.link or f"extproc approvals show {notice.id}")
    return title, "\n".join(lines)


def shown(text: str) -> str:
    """Return a text that others chose without what a channel could take for markup."""
    return _UNSHOWN.sub("?", text)


def _service(url: str) -> Apprise | None:
    # Here, since importing it takes a quarter of a second that only those pay who use it.
    from apprise import Apprise  # noqa: PLC0415

    # It writes whole URLs into its own log. What matters of it is logged by who sends.
    logging.getLogger("apprise").disabled = True
    service = Apprise()
    return service if service.add(url) else None
