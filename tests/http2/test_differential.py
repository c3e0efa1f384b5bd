"""What passes between the transport and the client of another library (h2), whatever both do in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.carrier import Status
from extproc.http2.connection import Connection
from extproc.http2.limits import Load
from tests.http2.services import Call, Calls
from tests.http2.wire import message, request

SERVICES = ("Echo", "Echo", "Held", "Held", "Silent", "Large", "Once", "Refusing")
STREAMS = 6


@dataclass
class Peer:
    """A stream as the client sees it."""

    call: Call | None = None
    sent: list[bytes] = field(default_factory=list)
    waiting: bytearray = field(default_factory=bytearray)
    """What the windows did not allow yet."""
    got: bytearray = field(default_factory=bytearray)
    owed: int = 0
    """What came, and was not acknowledged."""
    wants_end: bool = False
    has_ended: bool = False
    is_over: bool = False
    given_up: bool = False
    status: str | None = None


class Pair:
    """A client and a connection that hand each other bytes."""

    def __init__(self) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.calls = Calls()
        self.load = Load(1000)
        self.server = Connection(self.calls.services, self.load, wake=lambda: None, now=lambda: 0.0)
        self.peers: dict[int, Peer] = {}
        self.client.initiate_connection()
        self.exchange()

    def exchange(self, cut: int = 1 << 20) -> None:
        """Hand over all there is, in pieces of so many bytes, until nobody says anything more."""
        while True:
            sent = self.client.data_to_send()
            for at in range(0, len(sent), cut):
                self.server.receive(sent[at : at + cut])
            answer = self.server.outlet.drain()
            if not sent and not answer:
                return
            assert self.server.fault is None, self.server.fault
            for at in range(0, len(answer), cut):
                for event in self.client.receive_data(answer[at : at + cut]):
                    self._on(event)
            self._send_waiting()

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived(stream_id=number):
                peer = self.peers[number or 0]
                assert not peer.is_over
                peer.got += event.data or b""
                peer.owed += event.flow_controlled_length or 0
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                fields = {str(bytes(name), "ascii"): str(bytes(value), "ascii") for name, value in event.headers or ()}
                self.peers[event.stream_id or 0].status = fields.get("grpc-status")
            case h2.events.StreamEnded(stream_id=number):
                self.peers[number or 0].is_over = True
            case h2.events.StreamReset(stream_id=number):
                peer = self.peers[number or 0]
                # After a whole answer: the rest of the request is not wanted (RFC 9113, section 8.1).
                assert (peer.is_over and event.error_code == 0) or peer.given_up
                peer.has_ended = True

    def _send_waiting(self) -> None:
        for number, peer in self.peers.items():
            while peer.waiting and not peer.has_ended:
                room = min(self.client.local_flow_control_window(number), self.client.max_outbound_frame_size)
                if room <= 0:
                    break
                piece = bytes(peer.waiting[:room])
                del peer.waiting[:room]
                self.client.send_data(number, piece)
            if peer.wants_end and not peer.waiting and not peer.has_ended:
                peer.has_ended = True
                self.client.end_stream(number)

    # --- What either side does ---------------------------------------------------------------------------------------

    def open(self, service: str) -> None:
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, request(f"/test.{service}/Call", ("x-number", str(number % 3))))
        before = len(self.calls.made)
        peer = self.peers[number] = Peer()
        self.exchange()
        (peer.call,) = self.calls.made[before:]

    def send(self, peer: Peer, text: bytes) -> None:
        if not peer.has_ended and not peer.wants_end:
            peer.sent.append(text)
            peer.waiting += message(text)
            self._send_waiting()

    def end(self, peer: Peer) -> None:
        peer.wants_end = True
        self._send_waiting()

    def give_up(self, number: int) -> None:
        peer = self.peers[number]
        if not peer.is_over and not peer.given_up:
            peer.given_up = peer.has_ended = True
            self.client.reset_stream(number, 8)

    def acknowledge(self, number: int) -> None:
        """Give back the windows for what came."""
        peer = self.peers[number]
        if peer.owed:
            self.client.acknowledge_received_data(peer.owed, number)
            peer.owed = 0

    def settle(self) -> None:
        """Let everything take its course to the end."""
        for _ in range(10_000):
            before = (sum(len(peer.got) + len(peer.waiting) for peer in self.peers.values()), self._delivered())
            for number, peer in self.peers.items():
                self.acknowledge(number)
                if peer.call is not None and peer.call.holding:
                    peer.call.more()
            self.exchange()
            if before == (sum(len(peer.got) + len(peer.waiting) for peer in self.peers.values()), self._delivered()):
                return
        raise AssertionError("there is no end")

    def _delivered(self) -> int:
        return sum(len(call.messages) + call.ends for call in self.calls.made)


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(SERVICES), st.just(0)),
        st.tuples(st.just("send"), st.integers(0, STREAMS), st.sampled_from([0, 1, 5, 1000, 16_379, 16_380, 300_000])),
        st.tuples(st.just("say"), st.integers(0, STREAMS), st.sampled_from([0, 1, 1000, 16_380, 70_000, 500_000])),
        st.tuples(
            st.sampled_from(["ask", "end", "give_up", "acknowledge", "more", "finish", "abort"]),
            st.integers(0, STREAMS),
            st.just(0),
        ),
        st.tuples(st.just("window"), st.sampled_from([0, 1, 1000, 65_535, 1 << 20]), st.just(0)),
        st.tuples(st.just("frame"), st.sampled_from([16_384, 20_000, 100_000]), st.just(0)),
        st.tuples(st.just("pause"), st.booleans(), st.just(0)),
        st.tuples(st.just("exchange"), st.sampled_from([1, 9, 100, 1 << 20]), st.just(0)),
        st.tuples(st.just("ping"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


def act(pair: Pair, what: str, which: object, size: int) -> None:
    match what, which:
        case "open", str(service):
            pair.open(service)
        case "window", int(value):
            pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: value})
        case "frame", int(value):
            pair.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: value})
        case "pause", bool(paused):
            pair.server.pause() if paused else pair.server.resume()
        case "exchange", int(cut):
            # Byte by byte only where that is quick.
            pair.exchange(cut if not any(len(peer.waiting) > 5000 for peer in pair.peers.values()) else 1 << 20)
        case "ping", _:
            pair.client.ping(b"12345678")
        case _, int(at) if pair.peers:
            number = list(pair.peers)[at % len(pair.peers)]
            on_stream(pair, number, what, size)


def on_stream(pair: Pair, number: int, what: str, size: int) -> None:
    peer = pair.peers[number]
    call = peer.call
    assert call is not None
    match what:
        case "send":
            is_number = call.path in {"large", "refusing"}
            pair.send(peer, b"13" if call.path == "refusing" else b"2 %d" % size if is_number else b"m" * size)
        case "end":
            pair.end(peer)
        case "give_up":
            pair.give_up(number)
        case "acknowledge":
            pair.acknowledge(number)
        case _ if call.over:
            pass
        case "say":
            call.send(b"s" * size)
        case "more" if call.holding:
            call.more()
        case "finish":
            call.finish()
        case "abort":
            call.abort(Status.UNAVAILABLE, "made by a test")


@given(ops=OPS)
@settings(max_examples=150)
def test_messages_arrive_as_they_were_sent_and_ends_as_they_were_meant(ops: list[tuple[str, object, int]]) -> None:
    pair = Pair()
    pair.open("Echo")
    for what, which, size in ops:
        act(pair, what, which, size)
    pair.server.resume()
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    pair.exchange()
    for peer in pair.peers.values():
        pair.end(peer)
    pair.settle()
    for peer in pair.peers.values():
        call = peer.call
        assert call is not None
        said = b"".join(map(message, call.sent))
        assert call.messages == peer.sent[: len(call.messages)]
        if peer.given_up:
            assert call.resets == (not call.finished)
            assert said.startswith(peer.got)
        elif call.finished:
            assert peer.is_over
            assert (peer.status == "0") == call.ok
            assert peer.got == said or (not call.ok and said.startswith(peer.got))
        else:
            # All of it came, and the service waits.
            assert (call.messages, call.ends, call.resets) == (peer.sent, 1, 0)
            assert peer.got == said
    pair.server.lost()
    pair.calls.check()
    assert pair.load.running == 0
