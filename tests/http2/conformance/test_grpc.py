"""gRPC over HTTP/2: messages cut and joined anyhow, and which requests are served."""

from __future__ import annotations

import pytest

from tests.http2.conformance.serving import HELLO, Served, eventually
from tests.http2.wire import (
    FRAME_BYTES,
    PADDED,
    Kind,
    Setting,
    block,
    data,
    frame,
    headers,
    message,
    opened,
    request,
    window_update,
)
from tests.http2.wire_client import Answer, WireClient, connected

TEXTS = [b"", b"one", b"", b"the third of them"]
STREAM_OF_ALL = b"".join(map(message, TEXTS))
MOST = 4 << 20
"""Largest message that is taken, as by gRPC where nothing else is set."""


async def ended(client: WireClient, stream: int = 1) -> Answer:
    """Read until the stream is over, or the connection."""
    answer = client.answer(stream)
    await client.until(lambda: answer.over)
    return answer


def failed(answer: Answer, client: WireClient) -> bool:
    """Return whether Envoy takes it for a failure: a status that is not OK, or none at all."""
    return answer.status not in {None, "0"} or answer.reset is not None or bool(client.goaways)


# --- Messages --------------------------------------------------------------------------------------------------------


async def test_messages_may_be_cut_at_every_byte(served: Served) -> None:
    async with connected(served.path) as client:
        for cut in range(len(STREAM_OF_ALL) + 1):
            number = 2 * cut + 1
            await client.send(opened(number), data(number, STREAM_OF_ALL[:cut]))
            await client.send(data(number, STREAM_OF_ALL[cut:], end=True))
            answer = await client.over(number)
            assert (answer.messages, answer.status) == (TEXTS, "0")


@pytest.mark.parametrize("padded", [False, True])
async def test_messages_may_come_byte_by_byte(served: Served, *, padded: bool) -> None:
    async with connected(served.path) as client:
        await client.send(opened())
        for at in range(len(STREAM_OF_ALL)):
            byte = STREAM_OF_ALL[at : at + 1]
            await client.send(frame(Kind.DATA, PADDED, 1, b"\x02" + byte + bytes(2)) if padded else data(1, byte))
            await client.send(data(1), window_update(1, 1))
        await client.send(data(1, end=True))
        answer = await client.over()
        assert (answer.messages, answer.status) == (TEXTS, "0")


async def test_many_messages_may_be_in_one_frame(served: Served) -> None:
    async with connected(served.path) as client:
        texts = [b"%d" % number for number in range(1000)]
        await client.send(opened(), data(1, b"".join(map(message, texts)), end=True))
        assert (await client.over()).messages == texts


async def test_calls_may_be_woven(served: Served) -> None:
    async with connected(served.path) as client:
        numbers = range(1, 41, 2)
        await client.send(*(opened(number) for number in numbers))
        for at in range(0, len(STREAM_OF_ALL), 3):
            await client.send(*(data(number, STREAM_OF_ALL[at : at + 3]) for number in numbers))
        await client.send(*(data(number, end=True) for number in reversed(numbers)))
        for number in numbers:
            assert (await client.over(number)).messages == TEXTS


async def test_an_answer_comes_before_the_call_ends(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened())
        for text in (b"a", b"", b"b"):
            await client.send(data(1, message(text)))
            while not client.answer().body.endswith(message(text)):
                assert await client.read()
            assert not client.answer().over
        (response,) = client.answer().blocks
        assert (response[":status"], response["content-type"]) == ("200", "application/grpc")


@pytest.mark.parametrize("size", [FRAME_BYTES - 5, FRAME_BYTES - 4, 65_530, 65_531, 200_000, MOST - 100])
async def test_large_messages_come_back_whole(served: Served, size: int) -> None:
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 1 << 24}) as client:
        text = bytes(range(256)) * (size // 256) + bytes(size % 256)
        whole = message(text)
        await client.send(window_update(0, 1 << 24), opened())
        await client.send_body(1, whole)
        await client.send(data(1, end=True))
        assert (await client.over()).messages == [text]


@pytest.mark.parametrize(
    ("what", "sent", "statuses"),
    [
        ("compressed", data(1, message(b"hello", compressed=1), end=True), {"12", "13"}),
        ("compressed and empty", data(1, message(b"", compressed=1), end=True), {"12", "13"}),
        ("no such flag", data(1, message(b"hello", compressed=2), end=True), {"3", "12", "13"}),
        ("flag 255", data(1, message(b"hello", compressed=255), end=True), {"3", "12", "13"}),
        ("too large", data(1, b"\0" + (MOST + 1).to_bytes(4) + bytes(1000), end=True), {"8"}),
        ("too large, of which only the length came", data(1, b"\0" + (MOST + 1).to_bytes(4)), {"8"}),
        ("the largest length there is", data(1, b"\0\xff\xff\xff\xff"), {"8"}),
        ("cut off in the length", data(1, message(b"hello")[:3], end=True), {"13", "3"}),
        ("cut off in the first byte of the length", data(1, b"\0", end=True), {"13", "3"}),
        ("cut off after the length", data(1, message(b"hello")[:5], end=True), {"13", "3"}),
        ("cut off in the text", data(1, message(b"hello")[:9], end=True), {"13", "3"}),
        ("cut off, with trailers",
         data(1, message(b"hello")[:9]) + headers(1, block([("x", "1")]), end=True), {"13", "3"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("before", [b"", message(b"before")], ids=["at once", "after another"])
async def test_a_message_that_is_wrong_fails_its_call_alone(
    served: Served, what: str, sent: bytes, statuses: set[str], before: bytes
) -> None:
    async with connected(served.path) as client:
        await client.send(opened(), data(1, before), sent)
        answer = await ended(client)
        assert failed(answer, client)
        assert answer.status is None or answer.status in statuses
        (call,) = served.calls.made
        assert (call.ends, call.messages) == (0, [b"before"] if before else [])
        await eventually(lambda: call.resets)
        await client.send(opened(3), HELLO)
        assert (await client.over(3)).status == "0"


# --- Requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/test.Echo", "/test.Echo/", "/test.Echo/Other", "/test.Echo/Call/", "//test.Echo/Call", "/test.Echo/Call?x"],
)
@pytest.mark.parametrize("end", [True, False])
async def test_a_path_that_nobody_serves_is_unimplemented(served: Served, path: str, *, end: bool) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, path, end=end))
        answer = await client.over()
        assert (answer.blocks[0][":status"], answer.status, answer.body) == ("200", "12", b"")
        assert served.calls.made == []
        await client.echoed()


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "text/html", "application/grpcx", "application/grpc-web", "application", "x/grpc"],
)
async def test_another_content_type_is_refused(served: Served, content_type: str | None) -> None:
    async with connected(served.path) as client:
        fields = request("/test.Echo/Call", content_type=content_type)
        await client.send(headers(1, block(fields)), data(1, message(b"hello"), end=True))
        answer = await ended(client)
        # gRPC over HTTP/2, "Requests": 415, so that others do not take it for a success.
        assert answer.reset is not None or answer.blocks[0][":status"] == "415"
        assert served.calls.made == []
        await client.echoed()


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"])
async def test_the_content_types_of_grpc_are_served(served: Served, content_type: str) -> None:
    async with connected(served.path) as client:
        await client.send(headers(1, block(request("/test.Echo/Call", content_type=content_type)), end=True))
        assert (await client.over()).status == "0"


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post"])
async def test_another_method_is_refused(served: Served, method: str) -> None:
    async with connected(served.path) as client:
        await client.send(headers(1, block(request("/test.Echo/Call", method=method)), end=True))
        answer = await ended(client)
        assert answer.reset is not None or answer.blocks[0][":status"] in {"405", "400"} or answer.status == "12"
        assert served.calls.made == []
        await client.echoed()


async def test_connect_is_refused(served: Served) -> None:
    async with connected(served.path) as client:
        fields = [(":method", "CONNECT"), (":authority", "a:443"), ("content-type", "application/grpc")]
        await client.send(headers(1, block(fields)))
        answer = await ended(client)
        assert answer.status != "0"
        assert answer.reset is not None or answer.blocks[0][":status"] != "200" or answer.status == "12"
    assert served.calls.made == []
