from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.encoding import BadEncoding, Decoder, decoder

try:
    from backports import zstd
except ModuleNotFoundError:  # since Python 3.14 the same module is in the standard library
    from compression import zstd  # type: ignore[import-not-found, no-redef]

MIB = 1024 * 1024


class Compressor:
    """Compress one body; `flushed` ends what it was given so that a reader can decode it at once."""

    def __init__(self, push: Callable[[bytes], bytes], flush: Callable[[], bytes], end: Callable[[], bytes]) -> None:
        self.push, self.flush, self.end = push, flush, end

    def flushed(self, data: bytes) -> bytes:
        return self.push(data) + self.flush()

    def whole(self, data: bytes) -> bytes:
        return self.push(data) + self.end()


def deflating(wbits: int) -> Compressor:
    stream = zlib.compressobj(wbits=wbits)
    return Compressor(stream.compress, lambda: stream.flush(zlib.Z_SYNC_FLUSH), stream.flush)


def brotli_compressor() -> Compressor:
    stream: Any = brotli.Compressor(quality=4)
    return Compressor(stream.process, stream.flush, stream.finish)


def zstd_compressor() -> Compressor:
    stream = zstd.ZstdCompressor()
    return Compressor(stream.compress, lambda: stream.flush(stream.FLUSH_BLOCK), stream.flush)


def chained(inner: Compressor, outer: Compressor) -> Compressor:
    return Compressor(
        lambda data: outer.push(inner.push(data)),
        lambda: outer.flushed(inner.flush()),
        lambda: outer.whole(inner.end()),
    )


@dataclass(frozen=True)
class Coding:
    header: str
    compressor: Callable[[], Compressor]


CODINGS = {
    "gzip": Coding("gzip", lambda: deflating(31)),
    "deflate": Coding("deflate", lambda: deflating(15)),
    "raw deflate": Coding("deflate", lambda: deflating(-15)),
    "br": Coding("br", brotli_compressor),
    "zstd": Coding("zstd", zstd_compressor),
    "gzip in br": Coding("gzip, br", lambda: chained(deflating(31), brotli_compressor())),
    "br in zstd": Coding("br, zstd", lambda: chained(brotli_compressor(), zstd_compressor())),
    "raw deflate in gzip": Coding("deflate, gzip", lambda: chained(deflating(-15), deflating(31))),
}
PLAIN = ["gzip", "deflate", "raw deflate", "br", "zstd"]
EVERY_CODING = pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
EVERY_PLAIN_CODING = pytest.mark.parametrize("coding", [CODINGS[name] for name in PLAIN], ids=PLAIN)

EMPTY_GZIP = gzip.compress(b"", mtime=0)
EMPTY_ZSTD = zstd.compress(b"")


def decoding(header: str, *, max_ratio: int = 10**9, max_bytes: int = 64 * MIB) -> Decoder:
    made = decoder(header, max_ratio=max_ratio, max_bytes=max_bytes)
    assert made is not None
    return made


def decoded(header: str, chunks: Iterable[bytes]) -> bytes:
    body = decoding(header)
    return b"".join(body.feed(chunk) for chunk in chunks) + body.finish()


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in cycle(sizes):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=8)
PAYLOADS = st.one_of(
    st.binary(max_size=400),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=20), st.integers(0, 10_000)),
)


@EVERY_CODING
@given(payload=PAYLOADS, sizes=SIZES)
def test_a_body_comes_out_as_it_went_in_wherever_it_is_cut(coding: Coding, payload: bytes, sizes: list[int]) -> None:
    assert decoded(coding.header, cut(coding.compressor().whole(payload), sizes)) == payload


# Around the slices and pieces the decoder works in, and brotli's own first three buffers.
@EVERY_CODING
@pytest.mark.parametrize("size", [16_384, 65_535, 65_536, 65_537, 98_272, 131_072, 360_416, 2 * MIB])
def test_a_body_of_the_size_of_a_buffer_comes_out_whole(coding: Coding, size: int) -> None:
    for payload in (bytes(size), random.Random(size).randbytes(size)):  # noqa: S311  # no secret: bytes that do not compress
        encoded = coding.compressor().whole(payload)
        assert decoded(coding.header, [encoded]) == payload
        assert decoded(coding.header, cut(encoded, [9973])) == payload


@EVERY_CODING
def test_a_flushed_event_is_decoded_as_soon_as_it_arrived(coding: Coding) -> None:
    compressor, body = coding.compressor(), decoding(coding.header)
    texts = ["one", "two", "x" * 65_530, "y" * 98_266, "z" * 65_530, "w" * MIB, "three"]
    for event in [f"data:{text}\n".encode() for text in texts]:
        assert body.feed(compressor.flushed(event)) == event
    assert body.feed(compressor.end()) == b""
    assert body.finish() == b""


@EVERY_CODING
def test_a_flushed_event_is_decoded_when_its_last_byte_arrived(coding: Coding) -> None:
    compressor, body = coding.compressor(), decoding(coding.header)
    for number in range(20):
        event = f'data: {{"delta":"{number}"}}\n\n'.encode()
        assert b"".join(body.feed(bytes([byte])) for byte in compressor.flushed(event)) == event


@EVERY_CODING
def test_an_empty_payload_and_an_empty_body_are_both_empty(coding: Coding) -> None:
    assert decoded(coding.header, [coding.compressor().whole(b"")]) == b""
    assert decoded(coding.header, []) == b""
    assert decoded(coding.header, [b"", b""]) == b""


@EVERY_CODING
def test_every_truncation_is_noticed_and_yields_only_a_beginning(coding: Coding) -> None:
    payload = b"data: a short answer\n\n" * 5
    encoded = coding.compressor().whole(payload)
    for length in range(1, len(encoded)):
        body = decoding(coding.header)
        assert payload.startswith(body.feed(encoded[:length]))
        with pytest.raises(BadEncoding, match="truncated"):
            body.finish()


@EVERY_CODING
@pytest.mark.parametrize("trailing", [b"\0", b"\n", b"garbage", bytes(100)])
def test_data_after_the_end_is_refused(coding: Coding, trailing: bytes) -> None:
    encoded = coding.compressor().whole(b"payload")
    for chunks in ([encoded + trailing], [encoded, trailing], cut(encoded + trailing, [1])):
        with pytest.raises(BadEncoding):
            decoded(coding.header, chunks)


@pytest.mark.parametrize("name", ["deflate", "raw deflate", "br"])
def test_a_second_stream_is_refused_where_only_one_is_legal(name: str) -> None:
    coding = CODINGS[name]
    encoded = coding.compressor().whole(b"payload")
    for chunks in ([encoded * 2], [encoded, encoded]):
        with pytest.raises(BadEncoding, match=r"not valid br|more data follows"):
            decoded(coding.header, chunks)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@given(payloads=st.lists(st.binary(max_size=50), max_size=8), sizes=SIZES)
def test_several_members_are_one_body(name: str, payloads: list[bytes], sizes: list[int]) -> None:
    coding = CODINGS[name]
    encoded = b"".join(coding.compressor().whole(payload) for payload in payloads)
    assert decoded(coding.header, cut(encoded, sizes)) == b"".join(payloads)


@pytest.mark.parametrize("size", [65_536, 65_537, 200_000])
def test_a_member_larger_than_a_buffer_may_have_a_next_one_and_nothing_else(size: int) -> None:
    first = gzip.compress(b"a" * size)
    assert decoded("gzip", [first + gzip.compress(b"b")]) == b"a" * size + b"b"
    with pytest.raises(BadEncoding):
        decoded("gzip", [first + b"x"])


def test_a_skippable_zstd_frame_is_skipped() -> None:
    # RFC 8878 section 3.1.2: magic number, size, and that many bytes of anything.
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"a tag"
    frame = zstd.compress(b"payload")
    assert decoded("zstd", cut(frame + skippable + frame, [3])) == b"payloadpayload"


# Each decodes to nothing, so only their number can stop them.
@pytest.mark.parametrize(("header", "member"), [("gzip", EMPTY_GZIP), ("zstd", EMPTY_ZSTD)], ids=["gzip", "zstd"])
def test_members_beyond_the_bound_are_refused(header: str, member: bytes) -> None:
    body = decoding(header)
    assert body.feed(member * 65_536) == b""
    with pytest.raises(BadEncoding, match="more data follows"):
        body.feed(member)


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0x10
    return bytes(changed)


def with_preset_dictionary() -> bytes:
    stream = zlib.compressobj(zdict=b"a shared dictionary")
    return stream.compress(b"a shared dictionary") + stream.flush()


MALFORMED = {
    "gzip, no magic": ("gzip", b"no gzip at all"),
    "gzip, but deflate": ("gzip", zlib.compress(b"payload")),
    "gzip, wrong checksum": ("gzip", flipped(gzip.compress(b"payload"), -8)),
    "gzip, wrong length": ("gzip", flipped(gzip.compress(b"payload"), -1)),
    "deflate, wrong checksum": ("deflate", flipped(zlib.compress(b"payload"), -1)),
    "deflate, wrong header check": ("deflate", b"\x78\x00" + zlib.compress(b"payload")[2:]),
    "deflate, dictionary we do not have": ("deflate", with_preset_dictionary()),
    "deflate, plain text": ("deflate", b'{"error":"not compressed"}'),
    "br, plain text": ("br", b'{"error":"not compressed"}'),
    "zstd, plain text": ("zstd", b'{"error":"not compressed"}'),
    "zstd, reserved block type": ("zstd", b"\x28\xb5\x2f\xfd\x00\x58\x07\x00\x00"),
    "zstd, dictionary we do not have": ("zstd", b"\x28\xb5\x2f\xfd\x01\x58\x2a\x01\x00\x00"),
    "codings in the wrong order": ("br, gzip", brotli.compress(gzip.compress(b"payload"))),
    "inner coding malformed": ("gzip, br", brotli.compress(b"no gzip at all")),
}


@pytest.mark.parametrize(("header", "encoded"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_data_is_refused(header: str, encoded: bytes) -> None:
    for chunks in ([encoded], cut(encoded, [1])):
        with pytest.raises(BadEncoding, match="not valid"):
            decoded(header, chunks)


def outcome(header: str, chunks: Iterable[bytes]) -> bytes | None:
    try:
        return decoded(header, chunks)
    except BadEncoding:
        return None


@EVERY_PLAIN_CODING
@given(garbage=st.binary(max_size=60), position=st.integers(0, 200), sizes=SIZES)
def test_no_garbage_breaks_out_and_the_verdict_is_the_same_wherever_it_is_cut(
    coding: Coding, garbage: bytes, position: int, sizes: list[int]
) -> None:
    valid = coding.compressor().whole(b'data: {"choices":[]}\n\n' * 3)
    position %= len(valid)
    for encoded in (garbage, valid[:position] + garbage + valid[position:], valid[:position] + garbage):
        assert outcome(coding.header, [encoded]) == outcome(coding.header, cut(encoded, sizes))


def test_a_failed_body_stays_failed() -> None:
    body = decoding("gzip")
    encoded = gzip.compress(b"payload")
    with pytest.raises(BadEncoding, match="not valid gzip"):
        body.feed(b"no gzip at all")
    with pytest.raises(BadEncoding, match="nothing more"):
        body.feed(encoded)
    with pytest.raises(BadEncoding, match="nothing more"):
        body.finish()


def test_a_finished_body_takes_nothing_more() -> None:
    body = decoding("gzip")
    body.feed(gzip.compress(b"payload"))
    body.finish()
    with pytest.raises(BadEncoding, match="nothing more"):
        body.feed(gzip.compress(b"more"))


def gzip_bomb() -> bytes:
    """Make gzip of 1 GiB of zeros (without its end) from one fully flushed, hence repeatable, block."""
    stream = zlib.compressobj(wbits=31)
    head = stream.compress(b"") + stream.flush(zlib.Z_FULL_FLUSH)
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return head + block * 1024


def zstd_bomb() -> bytes:
    """Make one frame of 8 GiB of zeros: 65,536 blocks of 128 KiB of one byte each (RFC 8878 section 3.1.1.2)."""
    block = (128 * 1024 << 3 | 0b010).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x68" + block * 65_536


BOMBS = {
    "gzip": ("gzip", gzip_bomb()),
    "raw deflate": ("deflate", gzip_bomb()[10:]),
    "br": ("br", brotli.compress(bytes(128 * MIB), quality=1)),
    "zstd": ("zstd", zstd_bomb()),
    "zstd in gzip": ("zstd, gzip", gzip.compress(zstd_bomb())),
    "gzip in br": ("gzip, br", brotli.compress(gzip_bomb(), quality=5)),
    "nothing in a mountain of members": ("gzip, br", brotli.compress(EMPTY_GZIP * 60_000, quality=5)),
}
EVERY_BOMB = pytest.mark.parametrize(("header", "bomb"), BOMBS.values(), ids=BOMBS)


@EVERY_BOMB
@pytest.mark.parametrize("size", [100, 1024 * MIB], ids=["in chunks", "at once"])
def test_a_bomb_is_stopped_by_its_ratio_before_it_is_inflated(header: str, bomb: bytes, size: int) -> None:
    body = decoding(header, max_ratio=50, max_bytes=10**12)
    tracemalloc.start()
    try:
        with pytest.raises(BadEncoding, match="more than 50 times its size"):
            for chunk in cut(bomb, [size]):
                body.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 1 MiB is decoded before the ratio counts, and one slice of 16 KiB may decode to 50 times itself.
    assert peak < 3 * MIB


@EVERY_BOMB
def test_a_bomb_is_stopped_by_its_size_before_it_is_inflated(header: str, bomb: bytes) -> None:
    body = decoding(header, max_bytes=MIB)
    tracemalloc.start()
    try:
        with pytest.raises(BadEncoding, match=f"more than {MIB} bytes"):
            body.feed(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB


@EVERY_PLAIN_CODING
def test_the_size_bound_is_exact(coding: Coding) -> None:
    encoded = coding.compressor().whole(bytes(1000))
    assert decoding(coding.header, max_bytes=1000).feed(encoded) == bytes(1000)
    with pytest.raises(BadEncoding, match="more than 999 bytes"):
        decoding(coding.header, max_bytes=999).feed(encoded)


def test_the_ratio_does_not_count_until_a_mebibyte_was_decoded() -> None:
    assert decoding("gzip", max_ratio=1).feed(gzip.compress(bytes(MIB))) == bytes(MIB)
    with pytest.raises(BadEncoding, match="more than 1 times its size"):
        decoding("gzip", max_ratio=1).feed(gzip.compress(bytes(MIB + 1)))


def zstd_with_window(log: int) -> bytes:
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
    return stream.compress(b"payload") + stream.flush(stream.FLUSH_BLOCK) + stream.flush()


def test_a_zstd_window_of_8_mib_is_accepted() -> None:
    assert decoded("zstd", [zstd_with_window(23)]) == b"payload"


# The last is the largest window that can be declared (RFC 8878 section 3.1.1.1.2).
@pytest.mark.parametrize(
    "encoded",
    [zstd_with_window(24), zstd_with_window(27), b"\x28\xb5\x2f\xfd\x00\x69\x01\x00\x00", b"\x28\xb5\x2f\xfd\x00\xff"],
    ids=["16 MiB", "128 MiB", "9 MiB", "3.75 TiB"],
)
def test_a_larger_zstd_window_is_refused(encoded: bytes) -> None:
    with pytest.raises(BadEncoding, match="not valid zstd"):
        decoded("zstd", [encoded])


@pytest.mark.parametrize("header", ["", "identity", "Identity", " ", " , ,", "identity, identity"])
def test_identity_needs_no_decoder(header: str) -> None:
    assert decoder(header, max_ratio=100, max_bytes=MIB) is None


@pytest.mark.parametrize(
    "header", ["gzip", "GZip", "x-gzip", "X-GZIP", " gzip\t", "gzip,", ",identity, gzip, identity"]
)
def test_a_coding_is_known_in_any_case_and_any_spacing(header: str) -> None:
    assert decoded(header, [gzip.compress(b"payload")]) == b"payload"


@pytest.mark.parametrize("header", ["compress", "dcb", "gzip;q=1", "gzip br", "gzip, lzma", "*", "гзип", "\x00"])
def test_an_unknown_coding_is_refused_and_not_quoted(header: str) -> None:
    with pytest.raises(BadEncoding) as caught:
        decoder(header, max_ratio=100, max_bytes=MIB)
    assert str(caught.value) == "content-encoding names an unknown coding, known are br, deflate, gzip, x-gzip, zstd"


@pytest.mark.parametrize("header", ["gzip, gzip, gzip", "br, identity, gzip, zstd", "foo, gzip, br"])
def test_more_than_two_codings_are_refused(header: str) -> None:
    with pytest.raises(BadEncoding, match="lists 3 codings, at most 2"):
        decoder(header, max_ratio=100, max_bytes=MIB)
