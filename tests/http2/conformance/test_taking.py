"""RFC 9113, sections 5.2 and 6.9: we may send as much as a call takes; one that takes nothing holds up no other."""

from __future__ import annotations

from functools import partial

import pytest

from extproc.carrier import Status
from tests.http2.conformance.serving import Served, check_no_false_ok, eventually
from tests.http2.services import Call
from tests.http2.wire import WINDOW, Code, Setting, data, message, opened, reset, window_update
from tests.http2.wire_client import WireClient, connected

HUGE = 1 << 24


async def fill(client: WireClient, stream: int, piece: int = 1000) -> list[bytes]:
    """Send messages while the windows let us, at most 16 MiB; return them."""
    sent: list[bytes] = []
    while len(sent) * piece < HUGE:
        if client.left(stream) < piece + 5:
            await client.echoed()
            if client.left(stream) < piece + 5:
                return sent
        sent.append(len(sent).to_bytes(4) * (piece // 4))
        await client.send_data(stream, message(sent[-1]))
    raise AssertionError("the window has no end")


async def released(call: Call, count: int) -> None:
    """Let one message after the other come."""
    for number in range(1, count + 1):
        await eventually(partial(_has, call, number))
        call.more()


def _has(call: Call, count: int) -> bool:
    return len(call.messages) == count


async def test_a_call_that_takes_nothing_gets_no_more_than_its_window_and_then_all(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: HUGE}) as client:
        await client.send(window_update(0, HUGE), opened(1, "/test.Held/Call"))
        sent = await fill(client, 1)
        (call,) = served.calls.made
        assert call.messages == sent[:1]
        # What was taken may be given back, nothing else.
        assert client.window(1) <= client.announced.get(Setting.INITIAL_WINDOW_SIZE, WINDOW) + 1005
        await released(call, len(sent))
        assert call.messages == sent
        await client.until(lambda: len(client.answer(1).body) == 1005 * len(sent))
        await client.send(data(1, end=True))
        assert (await client.over()).status == "0"
        assert call.ends == 1


async def test_the_end_waits_until_what_came_before_it_was_taken(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Held/Call"), data(1, message(b"a") + message(b"b"), end=True))
        await client.echoed()
        (call,) = served.calls.made
        assert (call.messages, call.ends) == ([b"a"], 0)
        call.more()
        await eventually(lambda: len(call.messages) == 2)
        assert call.ends == 0
        call.more()
        answer = await client.over()
        assert (call.ends, answer.messages, answer.status) == (1, [b"a", b"b"], "0")


async def test_a_reset_does_not_wait_until_a_call_takes_more(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Held/Call"), data(1, message(b"a") + message(b"b"), end=True), reset(1))
        await client.echoed()
        (call,) = served.calls.made
        await eventually(lambda: call.resets)
        call.more()
        await client.echoed()
        assert (call.messages, call.ends, call.resets) == ([b"a"], 0, 1)


async def test_calls_that_take_nothing_do_not_hold_up_another(served: Served) -> None:
    async with connected(served.path) as client:
        for number in range(1, 40, 2):
            await client.send(opened(number, "/test.Held/Call"))
            await client.send_data(number, message(b"first"))
            await client.send_body(number, bytes(client.window(number) - 10))
        await client.send(opened(99), data(99, message(b"hello"), end=True))
        assert (await client.over(99)).messages == [b"hello"]


async def test_more_than_a_streams_window_is_an_error(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Held/Call"))
        await fill(client, 1)
        await client.send(data(1, bytes(client.left(1))), data(1, b"x"))
        answer = client.answer(1)
        await client.until(lambda: answer.over)
        assert (answer.reset or client.goaways[-1]) == Code.FLOW_CONTROL_ERROR
        check_no_false_ok(client, served.calls)
        await eventually(lambda: served.calls.last.resets)


async def test_padding_counts_against_the_window_and_comes_back(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"))
        count = 2 * client.window(1) // 262
        for _ in range(count):
            await client.send_padded(1, message(b"a"), 255)
        await client.echoed()
        assert len(served.calls.last.messages) == count


@pytest.mark.parametrize("ending", ["reset", "end", "abort"])
async def test_what_was_not_taken_comes_back_to_the_connection_when_the_stream_is_over(
    served: Served, ending: str
) -> None:
    async with connected(served.path) as client:
        number = 1
        # More than the connection's window: what a stream kept would be missed.
        enough = min(client.window(0) * 5 // 4, 4 * HUGE)
        while client.spent.get(0, 0) < enough:
            await client.send(opened(number, "/test.Held/Call"))
            await client.send_body(number, message(b"a") + bytes(client.window(number) - 6))
            if ending == "reset":
                await client.send(reset(number))
            else:
                await client.echoed()
                call = served.calls.last
                call.finish() if ending == "end" else call.abort(Status.UNAVAILABLE, "")
                await client.over(number)
            number += 2
        await client.echoed()
        assert client.goaways == []
