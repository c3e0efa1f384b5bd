"""A target that speaks syslog (RFC 5424): over UDP (RFC 5426), TCP (RFC 6587), or a socket such as /dev/log."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from extproc.errors import ConfigError
from extproc.feed.event import Event
from extproc.feed.port import TargetUnavailable

DEFAULT_MAX_BYTES: Final = 8192
"""Longest message. RFC 5424 section 6.1 asks receivers for 2048; this is what rsyslog takes where nobody changed it."""

# RFC 5424 section 6.2.1: facility 13 is "log audit", severity 6 "informational".
_PRIORITY: Final = 13 * 8 + 6
_NIL: Final = "-"
# RFC 5424 section 6.2.4.
_HOSTNAME = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Udp:
    """Datagrams to a host; what gets lost on the way stays lost. 514 is the port of RFC 5426 section 3.3."""

    host: str
    port: int = 514


@dataclass(frozen=True, slots=True)
class Tcp:
    """A connection for each batch. 601 is the port that RFC 6587 section 3.1 names, though many listen at 514."""

    host: str
    port: int = 601


@dataclass(frozen=True, slots=True)
class Unix:
    """Datagrams to a socket of this machine."""

    path: Path = Path("/dev/log")


class SyslogTarget:
    """Send one message per event, whose text is the line of JSON, cut to what fits (`Event.within`).

    `hostname` is what messages say they come from; raises ConfigError where it cannot be one.
    """

    def __init__(
        self,
        name: str,
        transport: Udp | Tcp | Unix,
        *,
        hostname: str = _NIL,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout_seconds: float = 10.0,
    ) -> None:
        if not _HOSTNAME.fullmatch(hostname):
            raise ConfigError("hostname: expected 1 to 255 visible ASCII characters")
        self.name = name
        self._transport = transport
        self._hostname = hostname
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def send(self, events: Sequence[Event]) -> None:
        """Send all; see the port. Over UDP nobody knows whether they arrived."""
        messages = [message(event, self._hostname, self._max_bytes) for event in events]
        try:
            await asyncio.to_thread(self._send, messages)
        except OSError as error:
            raise TargetUnavailable(f"syslog: {error.strerror or error}") from None

    def _send(self, messages: Sequence[bytes]) -> None:
        match self._transport:
            case Udp(host, port):
                _send_udp(host, port, messages, self._timeout_seconds)
            case Tcp(host, port):
                _send_tcp(host, port, messages, self._timeout_seconds)
            case Unix(path):
                with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as unix:
                    unix.connect(str(path))
                    _send_datagrams(unix, messages, self._timeout_seconds)
            case _ as never:
                assert_never(never)


def message(event: Event, hostname: str, max_bytes: int) -> bytes:
    """Return an event as a message of RFC 5424 section 6: no process id, no structured data, the kind as MSGID."""
    header = f"<{_PRIORITY}>1 {event.at or _NIL} {hostname} extproc {_NIL} {event.kind} {_NIL} ".encode("ascii")
    return header + event.within(max_bytes - len(header))


def _send_udp(host: str, port: int, messages: Sequence[bytes], timeout_seconds: float) -> None:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as udp:
        # Connected, so that a port nobody listens at is an error at the next message.
        udp.connect(address)
        _send_datagrams(udp, messages, timeout_seconds)


def _send_datagrams(sender: socket.socket, messages: Sequence[bytes], timeout_seconds: float) -> None:
    sender.settimeout(timeout_seconds)
    for one in messages:
        sender.send(one)


def _send_tcp(host: str, port: int, messages: Sequence[bytes], timeout_seconds: float) -> None:
    with closing(socket.create_connection((host, port), timeout_seconds)) as tcp:
        # Octet counting, RFC 6587 section 3.4.1.
        tcp.sendall(b"".join(b"%d %s" % (len(one), one) for one in messages))
        # Syslog has no acknowledgement, and what the kernel took can still be lost. A receiver that closes after our
        # end has read all before it.
        tcp.shutdown(socket.SHUT_WR)
        while tcp.recv(4096):
            pass
