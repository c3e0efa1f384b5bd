"""RFC 9113, sections 5.2 and 6.9: the server sends no more than our windows allow, and no less."""

from __future__ import annotations

from extproc.carrier import Status
from tests.http2.conformance.serving import HELLO, Served
from tests.http2.wire import FRAME_BYTES, WINDOW, Kind, Setting, data, message, opened, reset, settings, window_update
from tests.http2.wire_client import WireClient, connected

LARGE = "/test.Large/Call"
HUGE = 1 << 24


def asking(stream: int, count: int, size: int) -> bytes:
    """Ask for so many messages of so many bytes."""
    return opened(stream, LARGE) + data(stream, message(b"%d %d" % (count, size)), end=True)


async def came(client: WireClient, stream: int = 1) -> int:
    """Return how much came once the server has done all it could."""
    await client.echoed()
    await client.echoed()
    return len(client.answer(stream).body)


async def test_the_server_fills_a_streams_window_exactly(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 10}) as client:
        await client.send(asking(1, 1, 100))
        assert await came(client) == 10
        for increment, total in ((1, 11), (30, 41), (63, 104)):
            await client.send(window_update(1, increment))
            assert await came(client) == total
        assert not client.answer(1).ended
        await client.send(window_update(1, 1))
        assert len((await client.over()).messages[0]) == 100
        assert client.answer(1).status == "0"


async def test_the_server_fills_the_connections_window_exactly(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: HUGE}) as client:
        await client.send(asking(1, 2, 50_000), asking(3, 1, 50_000))
        assert await came(client, 1) + await came(client, 3) == WINDOW
        await client.send(window_update(0, 7))
        assert await came(client, 1) + await came(client, 3) == WINDOW + 7
        await client.send(window_update(0, HUGE))
        assert [len(one) for one in (await client.over(1)).messages] == [50_000, 50_000]
        assert [len(one) for one in (await client.over(3)).messages] == [50_000]


async def test_both_windows_are_obeyed_at_once(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 40_000}) as client:
        await client.send(asking(1, 1, 60_000), asking(3, 1, 60_000))
        one, other = await came(client, 1), await came(client, 3)
        assert one <= 40_000
        assert other <= 40_000
        assert one + other == WINDOW
        await client.send(window_update(0, HUGE))
        assert (await came(client, 1), await came(client, 3)) == (40_000, 40_000)
        await client.send(window_update(1, HUGE), window_update(3, HUGE))
        assert (await client.over(1)).status == (await client.over(3)).status == "0"


async def test_a_window_of_nothing_lets_headers_and_ends_without_data_pass(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        await client.send(opened(1, end=True))
        assert (await client.over(1)).status == "0"
        await client.send(opened(3, "/test.Refusing/Call"), data(3, message(b"8")))
        assert (await client.over(3)).status == "8"
        await client.send(opened(5), data(5, message(b"hello"), end=True))
        assert await came(client, 5) == 0
        assert not client.answer(5).over
        await client.send(settings({Setting.INITIAL_WINDOW_SIZE: 10}))
        assert (await client.over(5)).messages == [b"hello"]


async def test_what_the_service_sent_leaves_before_an_end_that_says_ok(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        await client.send(asking(1, 3, 1000))
        for _ in range(3 * 1005 - 1):
            await client.send(window_update(1, 1))
        assert await came(client) == 3 * 1005 - 1
        assert not client.answer(1).ended
        await client.send(window_update(1, 1))
        assert [len(one) for one in (await client.over()).messages] == [1000, 1000, 1000]


async def test_initial_window_size_moves_the_windows_of_open_streams_below_zero_too(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 100}) as client:
        await client.send(asking(1, 1, 1000))
        assert await came(client) == 100
        await client.send(settings({Setting.INITIAL_WINDOW_SIZE: 30}))
        assert await came(client) == 100
        await client.send(window_update(1, 70))
        assert await came(client) == 100
        await client.send(window_update(1, 5))
        assert await came(client) == 105
        # Back by the difference, on top of what was given.
        await client.send(settings({Setting.INITIAL_WINDOW_SIZE: 50}))
        assert await came(client) == 125
        await client.send(asking(3, 1, 1000))
        assert await came(client, 3) == 50
        await client.send(settings([(Setting.INITIAL_WINDOW_SIZE, 0), (Setting.INITIAL_WINDOW_SIZE, 2000)]))
        assert (await client.over(1)).status == (await client.over(3)).status == "0"


async def test_initial_window_size_leaves_the_connections_window_alone(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: HUGE}) as client:
        await client.send(asking(1, 1, 100_000))
        assert await came(client) == WINDOW
        await client.send(settings({Setting.INITIAL_WINDOW_SIZE: 2 * HUGE}))
        assert await came(client) == WINDOW


async def test_no_frame_is_larger_than_the_peer_takes(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: HUGE}) as client:
        await client.send(window_update(0, HUGE), asking(1, 3, 1_000_000))
        assert [len(one) for one in (await client.over()).messages] == [1_000_000] * 3
        assert max(len(one.payload) for one in client.frames if one.kind == Kind.DATA) <= FRAME_BYTES


async def test_a_stream_without_a_window_does_not_hold_up_others(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 100}) as client:
        await client.send(asking(1, 1, 5000))
        assert await came(client) == 100
        await client.send(opened(3), HELLO)
        assert (await client.over(3)).messages == [b"hello"]


async def test_what_waits_for_a_window_is_dropped_when_the_peer_gives_up(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 100}) as client:
        for number in range(1, 100, 2):
            await client.send(asking(number, 1, 500), reset(number))
        await client.send(settings({Setting.INITIAL_WINDOW_SIZE: HUGE}), window_update(0, HUGE))
        await client.echoed()
        assert [answer.status for answer in client.answers.values() if answer.ended] == []


async def test_an_abort_needs_no_window(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        await client.send(opened(1, "/test.Silent/Call"))
        await client.echoed()
        call = served.calls.last
        call.stream.send(b"waits")
        call.abort(Status.INTERNAL, "over")
        answer = await client.over()
    assert answer.reset is not None or answer.status == "13"


async def test_what_a_setting_lets_go_comes_after_its_acknowledgement(served: Served) -> None:
    # RFC 9113, section 6.5.3: that is when it holds for the peer.
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        await client.send(window_update(0, HUGE), asking(1, 1, 30_000))
        assert await came(client) == 0
        before = len(client.frames)
        both = [(Setting.MAX_FRAME_SIZE, 20_000), (Setting.INITIAL_WINDOW_SIZE, 10_000)]
        await client.send(settings(both))
        assert await came(client) == 10_000
        assert [one.kind for one in client.frames[before:]][:2] == [Kind.SETTINGS, Kind.DATA]


async def test_the_last_of_several_values_counts_for_what_is_sent(served: Served) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        await client.send(asking(1, 1, 30_000))
        await client.send(settings([(Setting.INITIAL_WINDOW_SIZE, 20_000), (Setting.INITIAL_WINDOW_SIZE, 0)]))
        assert await came(client) == 0
