"""A connection without a socket: what comes does not depend on how it is cut, and nothing ends with OK by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.carrier import MAX_MESSAGE_BYTES, Status, Stream
from extproc.http2 import frames
from extproc.http2.connection import Connection
from extproc.http2.frames import ErrorCode, Setting
from extproc.http2.limits import RESETS, Load
from extproc.http2.streams import WINDOW
from tests.http2.wire import message

MOST = 10
FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"ext_proc"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


@dataclass(eq=False)
class Call:
    """Note what comes; answer each message where `answer` is given, and hold after each where `holds`."""

    stream: Stream
    told: list[object] = field(default_factory=list)
    answer: Callable[[Call, bytes], None] | None = None
    holds: bool = False

    def receive(self, message: bytes) -> bool:
        self.told.append(message)
        if self.answer is not None:
            self.answer(self, message)
        return not self.holds

    def end(self) -> None:
        self.told.append("end")

    def reset(self) -> None:
        self.told.append("reset")


class Peer:
    """The other side: it says what it wants, and reads what comes with a decoder of its own."""

    def __init__(self, *, holds: bool = False, answer: Callable[[Call, bytes], None] | None = None) -> None:
        self.calls: list[Call] = []
        self.wakes = 0
        self.clock = 0.0
        self.load = Load(MOST)
        self._holds, self._answer = holds, answer
        self._decoder, self.encoder = hpack.Decoder(), hpack.Encoder()
        self.connection = Connection({"/a.B/C": self._begin}, self.load, wake=self._wake, now=lambda: self.clock)

    def _begin(self, stream: Stream) -> Call:
        self.calls.append(Call(stream, answer=self._answer, holds=self._holds))
        return self.calls[-1]

    def _wake(self) -> None:
        self.wakes += 1

    def say(self, *parts: bytes) -> list[tuple[object, ...]]:
        for part in parts:
            self.connection.receive(part)
        return self.read()

    def greet(self) -> None:
        self.say(frames.PREFACE, frames.settings({}))

    def read(self) -> list[tuple[object, ...]]:
        """Return what came: for each frame its type, stream, flags and what it says."""
        data = self.connection.outlet.drain()
        found: list[tuple[object, ...]] = []
        while data:
            high, low, kind, flags, number = frames.HEADER.unpack_from(data)
            end = 9 + (high << 8 | low)
            payload, data = data[9:end], data[end:]
            said: object = payload
            if kind == frames.HEADERS:
                said = {str(name): str(value) for name, value in self._decoder.decode(payload)}
            elif kind in {frames.RST_STREAM, frames.WINDOW_UPDATE}:
                said = int.from_bytes(payload)
            elif kind == frames.GOAWAY:
                said = ErrorCode(int.from_bytes(payload[4:8]))
            found.append((kind, number, flags, said))
        return found

    def opening(self, number: int, *, ends: bool = False) -> bytes:
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        return frames.frame(frames.HEADERS, flags, number, self.encoder.encode(FIELDS))


def data(number: int, content: bytes, *, ends: bool = False) -> bytes:
    """Return DATA frames."""
    pieces = [content[at : at + 16_384] for at in range(0, len(content), 16_384)] or [b""]
    last = len(pieces) - 1
    return b"".join(frames.frame(0, int(ends and at == last), number, piece) for at, piece in enumerate(pieces))


def echo(call: Call, body: bytes) -> None:
    call.stream.send(body)


def statuses(found: list[tuple[object, ...]]) -> list[str]:
    return [one[3]["grpc-status"] for one in found if isinstance(one[3], dict) and "grpc-status" in one[3]]


SIZES = st.lists(st.sampled_from([0, 1, 4, 100, 16_379, 16_380, 40_000]), max_size=3)


@given(
    st.lists(SIZES, min_size=1, max_size=2),
    st.lists(st.integers(1, 30_000), max_size=30),
    st.sampled_from([1, 3, 100, 5_000, 16_384]),
)
def test_what_is_told_does_not_depend_on_how_the_input_is_cut(
    calls: list[list[int]], cuts: list[int], frame_bytes: int
) -> None:
    # Few bytes in a frame, few in a message: a test that takes long is run seldom.
    calls = [[min(one, 50 * frame_bytes) for one in sizes] for sizes in calls]

    def script(peer: Peer) -> bytes:
        parts = [frames.PREFACE, frames.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 20})]
        parts.append(frames.window_update(0, 1 << 20))
        for number, sizes in enumerate(calls):
            parts.append(peer.opening(2 * number + 1))
            whole = b"".join(message(bytes((one % 251,)) * one) for one in sizes)
            pieces = [whole[at : at + frame_bytes] for at in range(0, len(whole), frame_bytes)]
            parts += [frames.frame(frames.DATA, 0, 2 * number + 1, piece) for piece in pieces]
            parts.append(data(2 * number + 1, b"", ends=True))
        return b"".join(parts)

    at_once, in_pieces = Peer(answer=echo), Peer(answer=echo)
    at_once.connection.receive(script(at_once))
    rest = script(in_pieces)
    for size in cuts:
        in_pieces.connection.receive(rest[:size])
        rest = rest[size:]
    in_pieces.connection.receive(rest)
    assert [call.told for call in in_pieces.calls] == [call.told for call in at_once.calls]
    assert [call.told for call in at_once.calls] == [
        [*(bytes((one % 251,)) * one for one in sizes), "end"] for sizes in calls
    ]
    assert in_pieces.connection.outlet.drain() == at_once.connection.outlet.drain()


@given(st.binary(max_size=300), st.integers(0, 20))
def test_any_bytes_end_in_a_state_that_is_closed_or_open_and_never_in_ok(noise: bytes, at: int) -> None:
    peer = Peer()
    peer.greet()
    sound = peer.opening(1) + data(1, message(b"hello"))
    found = peer.say(sound[:at] + noise, noise)
    assert statuses(found) in ([], ["12"])
    peer.connection.lost()
    assert all(call.told[-1] in {"reset", "end"} for call in peer.calls)


def test_headers_and_first_message_leave_in_one_write_and_wake_once() -> None:
    peer = Peer()
    peer.greet()
    peer.say(peer.opening(1))
    wakes = peer.wakes
    for body in (b"one", b"two"):
        peer.calls[0].stream.send(body)
    assert peer.wakes == wakes + 1
    kinds = [one[0] for one in peer.read()]
    assert kinds == [frames.HEADERS, frames.DATA, frames.DATA]
    peer.calls[0].stream.send(b"three")
    assert peer.wakes == wakes + 2


def test_an_answer_to_what_is_whole_needs_no_reset_and_another_frees_its_stream() -> None:
    peer = Peer(answer=lambda call, _: call.stream.finish())
    peer.greet()
    peer.say(peer.opening(1))
    found = peer.say(data(1, message(b"x")))
    assert [one[0] for one in found] == [frames.HEADERS, frames.RST_STREAM]
    assert found[1][3] == ErrorCode.NO_ERROR
    assert peer.load.running == 0
    # What crosses it is not looked at.
    assert peer.say(data(1, message(b"late"), ends=True)) == []
    assert peer.calls[0].told == [b"x"]


def test_a_call_that_is_aborted_with_ok_does_not_end_with_ok() -> None:
    peer = Peer(answer=lambda call, _: call.stream.abort(Status.OK, ""))
    peer.greet()
    assert statuses(peer.say(peer.opening(1), data(1, message(b"x")))) == ["13"]


def test_a_connection_that_is_lost_or_cut_tells_every_call_and_says_no_status() -> None:
    for end in (Connection.lost, Connection.cut):
        peer = Peer(answer=echo)
        peer.greet()
        peer.say(peer.opening(1), data(1, message(b"a")), peer.opening(3, ends=True), peer.opening(5))
        end(peer.connection)
        for call in peer.calls:
            call.stream.send(b"late")
            call.stream.finish()
        assert [call.told for call in peer.calls] == [[b"a", "reset"], ["end", "reset"], ["reset"]]
        assert statuses(peer.read()) == []
        assert peer.load.running == 0
        assert peer.connection.ended


def test_ok_is_not_said_before_what_waits_for_a_window() -> None:
    peer = Peer()
    peer.say(frames.PREFACE, frames.settings({Setting.INITIAL_WINDOW_SIZE: 4}), peer.opening(1, ends=True))
    peer.calls[0].stream.send(b"hello")
    peer.calls[0].stream.finish()
    assert statuses(peer.read()) == []
    peer.connection.cut()
    assert statuses(peer.read()) == []
    # It had said all that it wanted.
    assert peer.calls[0].told == ["end"]


def test_a_receiver_that_holds_gets_nothing_and_its_peer_no_window() -> None:
    peer = Peer(holds=True)
    peer.greet()
    piece = message(bytes(16_379))
    updates = [one for one in peer.say(peer.opening(1), data(1, piece * 16)) if one[:2] == (frames.WINDOW_UPDATE, 1)]
    (call,) = peer.calls
    assert (len(call.told), updates) == (1, [])
    for count in range(2, 17):
        call.stream.more()
        assert len(call.told) == count
    call.stream.more()
    given = [one[3] for one in peer.read() if one[:2] == (frames.WINDOW_UPDATE, 1)]
    assert sum(int(str(one)) for one in given) >= WINDOW // 2
    assert peer.say(data(1, bytes(WINDOW)), data(1, b"x"))[-1][3] == ErrorCode.FLOW_CONTROL_ERROR
    assert call.told[-1] == "reset"


def test_a_call_that_ended_with_a_message_gets_no_window() -> None:
    peer = Peer(answer=lambda call, said: call.stream.finish() if said == b"last" else None)
    peer.greet()
    before = message(bytes(WINDOW // 2 - 10))
    peer.say(peer.opening(1), data(1, before))
    assert [one[0] for one in peer.say(data(1, message(b"last")))] == [frames.HEADERS, frames.RST_STREAM]


def test_output_that_is_stuck_stops_the_input() -> None:
    peer = Peer(answer=lambda call, _: call.stream.send(bytes(200_000)))
    peer.say(frames.PREFACE, frames.settings({}), peer.opening(1), *[data(1, message(b"x"))] * 5)
    assert peer.calls[0].told == [b"x"] * 2
    peer.say(frames.window_update(0, 1 << 24), frames.window_update(1, 1 << 24))
    assert peer.calls[0].told == [b"x"] * 5


def test_a_peer_that_does_not_read_gets_nothing_more_until_it_does() -> None:
    peer = Peer(answer=echo)
    peer.greet()
    peer.say(peer.opening(1), data(1, message(b"a")))
    peer.connection.pause()
    peer.say(data(1, message(b"b") + message(b"c"), ends=True))
    assert peer.calls[0].told == [b"a"]
    peer.connection.resume()
    assert peer.calls[0].told == [b"a", b"b", b"c", "end"]
    assert len(peer.read()) == 2


def test_answers_that_a_peer_does_not_read_are_bounded() -> None:
    peer = Peer()
    peer.greet()
    peer.connection.pause()
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    found = peer.say(ping * 2000)
    assert peer.connection.ended
    assert len(found) < 1100
    assert found[-1][3] == ErrorCode.ENHANCE_YOUR_CALM


def test_refusals_that_a_peer_does_not_read_are_bounded() -> None:
    peer = Peer()
    peer.greet()
    peer.connection.pause()
    assert len(peer.say(*(peer.opening(number) for number in range(1, 5000, 2)))) < 1100
    assert peer.connection.ended


def test_more_within_a_message_lets_the_next_one_come_after_it() -> None:
    def answer(call: Call, said: bytes) -> None:
        call.stream.more()
        call.told.append(b"after " + said)

    peer = Peer(holds=True, answer=answer)
    peer.greet()
    peer.say(peer.opening(1), data(1, message(b"a") + message(b"b"), ends=True))
    assert peer.calls[0].told == [b"a", b"after a", b"b", b"after b", "end"]


def test_many_pings_in_a_second_are_too_many_and_the_next_second_is_another() -> None:
    peer = Peer()
    peer.greet()
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    for _ in range(3):
        peer.clock += 1
        peer.say(ping * 10_000)
        assert not peer.connection.ended
    assert peer.say(ping)[-1][3] == ErrorCode.ENHANCE_YOUR_CALM


def test_calls_that_are_opened_and_reset_are_counted_where_they_were_not_answered() -> None:
    def churn(peer: Peer, count: int, *said: bytes) -> bool:
        for number in range(1, 2 * count, 2):
            peer.say(peer.opening(number), *(data(number, one) for one in said), frames.reset(number, ErrorCode.CANCEL))
        return peer.connection.ended

    peers = [Peer(answer=echo) for _ in range(3)]
    for peer in peers:
        peer.greet()
    assert not churn(peers[0], RESETS + MOST)
    assert churn(peers[1], RESETS + MOST + 1)
    assert not churn(peers[2], 5000, message(b"x"))


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:5], frames.PREFACE, frames.PREFACE + frames.settings({})[:8]])
def test_a_peer_that_did_not_greet_when_it_should_have_is_cut(said: bytes) -> None:
    peer = Peer()
    peer.say(said)
    peer.connection.check_greeted()
    assert [one[::3] for one in peer.read()] == [(frames.GOAWAY, ErrorCode.SETTINGS_TIMEOUT)]
    assert peer.connection.ended
    assert "SETTINGS_TIMEOUT" in str(peer.connection.fault)
    # It is over once.
    peer.connection.check_greeted()
    assert peer.read() == []


def test_a_peer_that_greeted_is_not_cut_whether_it_calls_or_not() -> None:
    peer = Peer()
    peer.greet()
    peer.connection.check_greeted()
    # Within a header block, too.
    peer.say(frames.frame(frames.HEADERS, 0, 1, peer.encoder.encode(FIELDS)))
    peer.connection.check_greeted()
    peer.say(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1))
    peer.connection.check_greeted()
    assert not peer.connection.ended
    assert len(peer.calls) == 1


def test_a_call_too_many_is_refused_until_one_ends() -> None:
    peer = Peer()
    peer.greet()
    peer.say(*(peer.opening(number) for number in range(1, 2 * MOST, 2)))
    assert peer.say(peer.opening(101)) == [(frames.RST_STREAM, 101, 0, ErrorCode.REFUSED_STREAM)]
    peer.calls[3].stream.abort(Status.UNAVAILABLE, "")
    peer.say(peer.opening(103))
    assert len(peer.calls) == MOST + 1


def test_a_connection_that_leaves_takes_what_is_under_way_and_ends_with_its_last_call() -> None:
    peer = Peer()
    peer.greet()
    peer.say(peer.opening(1))
    peer.connection.leave()
    first, ping = peer.read()
    assert first[3] == ErrorCode.NO_ERROR
    assert isinstance(ping[3], bytes)
    peer.say(peer.opening(3))
    (last,) = peer.say(frames.frame(frames.PING, frames.ACK, 0, ping[3]))
    assert last[:2] == (frames.GOAWAY, 0)
    assert peer.say(peer.opening(5)) == []
    assert len(peer.calls) == 2
    peer.calls[0].stream.abort(Status.UNAVAILABLE, "")
    assert not peer.connection.ended
    peer.calls[1].stream.finish()
    assert peer.connection.ended


def test_a_message_that_is_too_large_ends_its_call_at_its_prefix() -> None:
    peer = Peer()
    peer.greet()
    found = peer.say(peer.opening(1), data(1, b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4)))
    assert statuses(found) == ["8"]
    assert peer.calls[0].told == ["reset"]


def test_a_receiver_that_fails_is_told_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_call: Call, _message: bytes) -> None:
        raise ValueError("a secret")

    peer = Peer(answer=fail)
    peer.greet()
    assert statuses(peer.say(peer.opening(1), data(1, message(b"x")))) == ["13"]
    assert peer.calls[0].told == [b"x", "reset"]
    assert "a secret" not in caplog.text
    assert caplog.records[0].__dict__["fields"] == {"fault": "ValueError"}


def test_new_windows_allow_nothing_before_their_acknowledgement() -> None:
    peer = Peer()
    peer.say(frames.PREFACE, frames.settings({Setting.INITIAL_WINDOW_SIZE: 0}), peer.opening(1))
    peer.calls[0].stream.send(b"hello")
    assert [one[0] for one in peer.read()] == [frames.HEADERS]
    found = peer.say(frames.settings({Setting.INITIAL_WINDOW_SIZE: 100}))
    assert [one[0] for one in found] == [frames.SETTINGS, frames.DATA]
