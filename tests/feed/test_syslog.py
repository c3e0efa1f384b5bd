from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from extproc.errors import ConfigError
from extproc.feed.event import event_of
from extproc.feed.port import TargetUnavailable
from extproc.feed.syslog import SyslogTarget, Tcp, Udp, Unix, message
from extproc.recording.entry import Kind
from tests.feed.ledger import entries_of

EVENTS = [event_of(entry) for entry in entries_of("pod-1.0.7", list(Kind), user="Łukasz\n")]
# RFC 5424 section 6: HEADER SP STRUCTURED-DATA SP MSG, where only "-" stands for structured data here.
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z|-) ([!-~]{1,255}) ([!-~]{1,48}) - ([!-~]{1,32}) - (.*)"
)


def parsed(raw: bytes) -> dict[str, object]:
    match = MESSAGE.fullmatch(raw)
    assert match is not None
    priority, at, hostname, app, kind, text = match.groups()
    names = {"at": at.decode(), "hostname": hostname.decode(), "app": app.decode(), "kind": kind.decode()}
    return {"facility": int(priority) // 8, "severity": int(priority) % 8, **names, "text": json.loads(text)}


def test_an_event_is_a_message_of_rfc_5424() -> None:
    assert parsed(message(EVENTS[3], "gateway-1", 8192)) == {
        "facility": 13,
        "severity": 6,
        "at": "2025-10-09T08:53:20.000004Z",
        "hostname": "gateway-1",
        "app": "extproc",
        "kind": "legal-hold",
        "text": json.loads(EVENTS[3].line),
    }


def test_a_message_keeps_within_its_length_and_says_that_it_was_cut() -> None:
    (entry,) = entries_of("pod-1.0.7", 1, user="alice", paths=["x" * 500] * 100)
    raw = message(event_of(entry), "-", 2048)
    assert len(raw) <= 2048
    assert parsed(raw)["text"] == json.loads(event_of(entry).within(1000))


@pytest.mark.parametrize("hostname", ["", "two words", "ü", "x" * 256, "a\nb"])
def test_a_hostname_that_messages_cannot_carry_is_refused(hostname: str) -> None:
    with pytest.raises(ConfigError, match="hostname"):
        SyslogTarget("feeds[0]", Unix(), hostname=hostname)


def received(receiver: socket.socket, count: int) -> list[object]:
    receiver.settimeout(5)
    return [parsed(receiver.recv(65_536))["text"] for _ in range(count)]


async def test_over_udp_each_message_is_a_datagram() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(("127.0.0.1", 0))
        await SyslogTarget("feeds[0]", Udp("127.0.0.1", receiver.getsockname()[1])).send(EVENTS)
        assert received(receiver, 5) == [json.loads(event.line) for event in EVENTS]


async def test_over_a_unix_socket_each_message_is_a_datagram(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "log"))
        await SyslogTarget("feeds[0]", Unix(tmp_path / "log")).send(EVENTS)
        assert received(receiver, 5) == [json.loads(event.line) for event in EVENTS]


async def test_a_full_unix_socket_is_given_up(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "log"))
        target = SyslogTarget("feeds[0]", Unix(tmp_path / "log"), timeout_seconds=0.05)
        with pytest.raises(TargetUnavailable, match="timed out"):
            await target.send(EVENTS * 1000)


async def test_where_nobody_listens_it_is_unavailable(tmp_path: Path, unused_tcp_port: int) -> None:
    with pytest.raises(TargetUnavailable, match="No such file"):
        await SyslogTarget("feeds[0]", Unix(tmp_path / "log")).send(EVENTS)
    with pytest.raises(TargetUnavailable, match="refused"):
        await SyslogTarget("feeds[0]", Tcp("127.0.0.1", unused_tcp_port)).send(EVENTS)


# --- TCP -------------------------------------------------------------------------------------------------------------


class Receiver:
    """Take one connection after another in a thread, and read each to its end unless told to break or keep it."""

    def __init__(self) -> None:
        self.got: SimpleQueue[bytes] = SimpleQueue()
        self.mood = "reads"
        self.kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            first = connection.recv(65_536)
            if first == b"stop":
                connection.close()
                return
            if self.mood == "resets":
                # Closing with SO_LINGER 0 sends a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            elif self.mood == "keeps":
                self.kept.append(connection)
            else:
                with closing(connection), connection.makefile("rb") as rest:
                    self.got.put(first + rest.read())

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._listener.close()
        for connection in self.kept:
            connection.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as running:
        yield running


def frames(raw: bytes) -> list[object]:
    """Read octet-counted messages, RFC 6587 section 3.4.1."""
    found = []
    while raw:
        length, _, raw = raw.partition(b" ")
        found.append(parsed(raw[: int(length)])["text"])
        raw = raw[int(length) :]
    return found


async def test_over_tcp_messages_are_counted_and_the_receiver_has_read_all_when_it_returns(receiver: Receiver) -> None:
    target = SyslogTarget("feeds[0]", Tcp("127.0.0.1", receiver.port))
    for batch in (EVENTS, EVENTS * 2000):
        await target.send(batch)
        assert frames(receiver.got.get_nowait()) == [json.loads(event.line) for event in batch]


async def test_a_connection_that_breaks_means_not_taken(receiver: Receiver) -> None:
    receiver.mood = "resets"
    with pytest.raises(TargetUnavailable, match="syslog: "):
        await SyslogTarget("feeds[0]", Tcp("127.0.0.1", receiver.port)).send(EVENTS * 2000)


async def test_a_receiver_that_does_not_read_to_the_end_has_not_taken_it(receiver: Receiver) -> None:
    receiver.mood = "keeps"
    target = SyslogTarget("feeds[0]", Tcp("127.0.0.1", receiver.port), timeout_seconds=0.1)
    with pytest.raises(TargetUnavailable, match="timed out"):
        await target.send(EVENTS)
