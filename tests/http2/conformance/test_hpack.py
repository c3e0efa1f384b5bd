"""RFC 7541: header blocks that cannot be decoded, and a dynamic table that is right after any number of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2.conformance.serving import BLOCK, HELLO, Case, Echoed, Served, goaway_with, run, serving
from tests.http2.wire import (
    END_HEADERS,
    END_STREAM,
    Code,
    Kind,
    Setting,
    block,
    data,
    field_line,
    frame,
    headers,
    indexed,
    integer,
    literal,
    message,
    opened,
    request,
    reset,
    table_size,
)
from tests.http2.wire import settings as settings_frame
from tests.http2.wire_client import WireClient, connected

COMPRESSION = goaway_with(Code.COMPRESSION_ERROR)
LARGEST_TABLE = 4096
"""RFC 9113, section 6.5.2: SETTINGS_HEADER_TABLE_SIZE where nothing else was announced."""


def huffman(bits: str) -> bytes:
    """Return a literal whose value has these bits as its Huffman code."""
    coded = int(bits, 2).to_bytes(len(bits) // 8)
    return b"\x00" + literal(b"x") + integer(len(coded), 7, 0x80) + coded


def allowed(client: WireClient) -> int:
    return client.announced.get(Setting.HEADER_TABLE_SIZE, LARGEST_TABLE)


def larger_table(client: WireClient) -> bytes:
    return headers(3, table_size(allowed(client) + 1) + BLOCK)


def largest_table(client: WireClient) -> bytes:
    return headers(3, table_size(allowed(client)) + BLOCK) + HELLO


# RFC 7541, appendix B: "a" is 00011, "&" 11111000, the end of string thirty ones.
_A = "00011"
WRONG = {
    "index 0": indexed(0),
    "index beyond the tables": indexed(62),
    "index far beyond": indexed(1_000_000),
    "name of index beyond the tables": integer(62, 4) + literal(b"x"),
    "name of index beyond, with indexing": integer(62, 6, 0x40) + literal(b"x"),
    "an integer without an end": b"\xff" + b"\xff" * 100,
    "an integer that is cut off": b"\xff\xff",
    "a name that is cut off": b"\x00\x05abc",
    "a value that is cut off": b"\x00\x01x\x05abc",
    "no value": b"\x00\x01x",
    "a first byte alone": b"\x00",
    "a string longer than any": b"\x00\x7f\xff\xff\xff\xff\x07abc",
    "Huffman padding of zeros": huffman(_A + "000"),
    "Huffman padding that is one bit wrong": huffman(_A + "110"),
    "Huffman padding of eight bits": huffman(_A + "1" * 11),
    "Huffman code for the end of the string": huffman("1" * 32),
    "Huffman padding alone": huffman("1" * 8),
    "size of the table after a field": BLOCK + table_size(0),
    "size of the table between fields": block(request()[:3]) + table_size(0) + block(request()[3:]),
    "size of the table that is cut off": table_size(100)[:1],
}
CASES = [
    *(Case("4.3", what, headers(3, BLOCK + wrong), COMPRESSION) for what, wrong in WRONG.items()),
    *(Case("4.3", f"{what}, alone", headers(3, wrong), COMPRESSION) for what, wrong in list(WRONG.items())[:-3]),
    *(
        Case("4.3", f"{what}, in two frames", frame(1, 0, 3, BLOCK) + frame(9, END_HEADERS, 3, wrong), COMPRESSION)
        for what, wrong in WRONG.items()
    ),
    *(
        Case("4.3", f"{what}, in trailers", opened(3) + headers(3, block([("x", "1")]) + wrong, end=True), COMPRESSION)
        for what, wrong in WRONG.items()
    ),
    Case("4.3", "a table larger than announced", larger_table, COMPRESSION),
    Case("4.3", "a table as large as announced", largest_table, Echoed()),
    Case("4.3", "two sizes of the table", headers(3, table_size(0) + table_size(100) + BLOCK) + HELLO, Echoed()),
    Case("4.3", "an entry that the table's size drove out",
         headers(3, field_line("x", "1", 0x40)[:1] + literal(b"x") + literal(b"1") + table_size(0)), COMPRESSION),
    Case("4.3", "Huffman padding as it is", headers(3, BLOCK + huffman(_A + "111")) + HELLO, Echoed()),
    Case("4.3", "wrong on a stream that is over",
         opened(3) + reset(3) + headers(3, indexed(0)),
         goaway_with(Code.COMPRESSION_ERROR, Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_block(case: Case, served: Served) -> None:
    await run(case, served)


def base(path: str = "/test.Echo/Call") -> bytes:
    return block(request(path))


async def names(served: Served, client: WireClient, stream: int, part: bytes) -> dict[str, str]:
    """Open a call whose header block ends with `part`, and return the fields that are not of every request."""
    await client.send(headers(stream, base() + part, end=True))
    answer = await client.over(stream)
    assert answer.status == "0"
    metadata = served.calls.last.stream.metadata
    return {name: value for name, value in metadata.items() if name.startswith("x-")}


async def test_the_same_bytes_mean_what_the_table_says_at_that_moment(served: Served) -> None:
    async with connected(served.path) as client:
        seen = []
        newest, second = indexed(62), indexed(63)
        parts = [field_line("x-a", "1", 0x40), newest, newest, field_line("x-b", "2", 0x40), newest, second, newest]
        parts += [newest + second, field_line("x-a", "3", 0x40), newest + second, newest, second, newest + second]
        for number, part in enumerate(parts):
            seen.append(await names(served, client, 2 * number + 1, part))
    a, b, c = {"x-a": "1"}, {"x-b": "2"}, {"x-a": "3"}
    assert seen == [a, a, a, b, b, a, b, b | a, c, c | b, c, b, c | b]


async def test_a_whole_block_that_repeats_is_decoded_by_the_table_of_its_moment(served: Served) -> None:
    # Every field from the table, as Envoy sends it from the second request on: the bytes alone say nothing.
    names_ = [name for name, _ in request()]
    async with connected(served.path) as client:
        paths = ["/test.Echo/Call", "/test.Silent/Call", "/test.Refusing/Call"]
        whole = b"".join(indexed(62 + len(names_) - 1 - at) for at in range(len(names_)))
        stream = 1
        for round_ in range(30):
            path = paths[round_ % 3]
            fields = [*request(path)[:-1], ("content-type", f"application/grpc+v{round_}")]
            await client.send(headers(stream, block(fields, 0x40)))
            for number in range(stream + 2, stream + 8, 2):
                await client.send(headers(number, whole))
            await client.echoed()
            assert [call.path for call in served.calls.made[-4:]] == [path.split(".")[1].split("/")[0].lower()] * 4
            types = [call.stream.metadata["content-type"] for call in served.calls.made[-4:]]
            assert types == [f"application/grpc+v{round_}"] * 4
            await client.send(*(reset(number) for number in range(stream, stream + 8, 2)))
            stream += 8


async def test_blocks_of_trailers_and_of_refused_requests_change_the_table_too(served: Served) -> None:
    async with connected(served.path) as client:
        assert await names(served, client, 1, field_line("x-a", "1", 0x40)) == {"x-a": "1"}
        await client.send(opened(3), headers(3, field_line("x-t", "trailer", 0x40), end=True))
        assert (await client.over(3)).status == "0"
        assert await names(served, client, 5, indexed(62) + indexed(63)) == {"x-a": "1", "x-t": "trailer"}
        await client.send(headers(7, block(request("/unknown")) + field_line("x-u", "unknown", 0x40), end=True))
        assert (await client.over(7)).status == "12"
        assert await names(served, client, 9, indexed(62)) == {"x-u": "unknown"}
        await client.send(headers(11, base() + field_line("x-m", "malformed", 0x40) + field_line("Bad", "", 0x40)))
        await client.until(lambda: client.answer(11).over)
        if not client.goaways:
            assert await names(served, client, 13, indexed(63)) == {"x-m": "malformed"}


async def test_a_smaller_table_drives_out_what_has_no_room(served: Served) -> None:
    async with connected(served.path) as client:
        first = field_line("x-a", "1", 0x40) + field_line("x-b", "2", 0x40)
        assert await names(served, client, 1, first) == {"x-a": "1", "x-b": "2"}
        # What was decoded before is decoded anew: the same bytes refer to nothing afterwards.
        assert await names(served, client, 3, indexed(63)) == {"x-a": "1"}
        # An entry of so many bytes: RFC 7541, section 4.1.
        await client.send(headers(5, table_size(36) + base() + indexed(62), end=True))
        assert (await client.over(5)).status == "0"
        assert served.calls.last.stream.metadata["x-b"] == "2"
        await client.send(headers(7, base() + indexed(63), end=True))
        await client.closed()
        assert client.goaways == [Code.COMPRESSION_ERROR]


async def test_an_entry_larger_than_the_table_empties_it(served: Served) -> None:
    async with connected(served.path) as client:
        assert await names(served, client, 1, field_line("x-a", "1", 0x40)) == {"x-a": "1"}
        large = "v" * LARGEST_TABLE
        assert await names(served, client, 3, field_line("x-l", large, 0x40)) == {"x-l": large}
        await client.send(headers(5, base() + indexed(62), end=True))
        await client.closed()
        assert client.goaways == [Code.COMPRESSION_ERROR]


async def test_the_server_obeys_the_size_of_our_table(served: Served) -> None:
    async with connected(served.path, {Setting.HEADER_TABLE_SIZE: 0}) as client:
        for number in range(1, 21, 2):
            await client.send(opened(number), data(number, message(b"a"), end=True))
            assert (await client.over(number)).status == "0"
        decoder = hpack.Decoder()
        for one in client.frames:
            if one.kind == Kind.HEADERS:
                decoder.decode(one.payload)
        assert len(decoder.header_table.dynamic_entries) == 0
        await client.send(settings_frame({Setting.HEADER_TABLE_SIZE: 2**32 - 1}))
        await client.echoed()


# --- Any sequence of blocks ------------------------------------------------------------------------------------------


@dataclass
class Table:
    """An encoder that chooses among all representations of a field by chance (RFC 7541, sections 2.3, 4 and 6)."""

    random: Random
    size: int = LARGEST_TABLE
    entries: list[tuple[str, str]] = field(default_factory=list)

    def resize(self, size: int) -> bytes:
        self.size = size
        self._evict()
        return table_size(size)

    def encode(self, fields: list[tuple[str, str]]) -> bytes:
        return b"".join(self._encode(name, value) for name, value in fields)

    def _encode(self, name: str, value: str) -> bytes:
        if (name, value) in self.entries and self.random.random() < 0.8:
            return indexed(62 + self.entries.index((name, value)))
        kind = self.random.randrange(3)
        first, bits = ((0x40, 6), (0x00, 4), (0x10, 4))[kind]
        known = [at for at, entry in enumerate(self.entries) if entry[0] == name]
        if known and self.random.random() < 0.7:
            start = integer(62 + self.random.choice(known), bits, first)
        else:
            start = bytes((first,)) + literal(name.encode())
        if kind == 0:
            self.entries.insert(0, (name, value))
            self._evict()
        return start + literal(value.encode())

    def _evict(self) -> None:
        while sum(32 + len(name) + len(value) for name, value in self.entries) > self.size:
            self.entries.pop()


VALUES = st.sampled_from(["", "1", "2", "a longer value of a field", "v" * 300, "w" * 1500])
BLOCKS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["x-a", "x-b", "x-c", "x-long-name-of-a-field"]), VALUES), max_size=8),
        st.none() | st.sampled_from([0, 60, 200, 1000, LARGEST_TABLE]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)


@given(blocks=BLOCKS, seed=st.integers(0, 2**32))
@settings(max_examples=60)
async def test_any_sequence_of_blocks_is_decoded_as_it_was_meant(
    blocks: list[tuple[list[tuple[str, str]], int | None, int]], seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - repeatable
    async with serving() as served, connected(served.path) as client:
        table = Table(random, min(LARGEST_TABLE, allowed(client)))
        for at, (more, size, again) in enumerate(blocks):
            # The same request again and again is what a cache of blocks would keep.
            for turn in range(again + 1):
                number = 2 * (4 * at + turn) + 1
                start = b"" if size is None or turn else table.resize(min(size, allowed(client)))
                whole = start + table.encode(request("/test.Echo/Call", *more))
                cut = random.randint(0, len(whole))
                if random.random() < 0.3:
                    await client.send(frame(1, END_STREAM, number, whole[:cut]), frame(9, 4, number, whole[cut:]))
                else:
                    await client.send(headers(number, whole, end=True))
                assert (await client.over(number)).status == "0"
                metadata = served.calls.last.stream.metadata
                assert {name: value for name, value in metadata.items() if name.startswith("x-")} == dict(more)
