"""Decode compressed bodies as they arrive (RFC 9110 section 8.4), within bounds that hold before memory is spent.

Pure. What was compressed up to a flush comes out at once, so a compressed event stream stays a stream. Whatever is not
exactly a complete, valid body within its bounds is refused: nobody masks or records what we merely guessed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import brotli  # type: ignore[import-untyped]  # it ships no types: see _BrotliDecompressor

from extproc.errors import ExtprocError

try:
    from backports import zstd
except ModuleNotFoundError:  # since Python 3.14 the same module is in the standard library
    from compression import zstd  # type: ignore[import-not-found, no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# No decompressor is asked for more than this at once; brotli's buffer grows by steps of its own and may give half as
# much again.
_PIECE_BYTES = 64 * 1024
# A decompressor copies the input it has not consumed: short slices keep that linear.
_SLICE_BYTES = 16 * 1024
# The ratio of a short body says nothing: a megabyte of blanks is no attack.
_RATIO_FROM_BYTES = 1024 * 1024
# Opening a member costs microseconds whatever is in it, and an empty one is 9 bytes long.
_MAX_MEMBERS = 65_536
# One more than anyone uses: a proxy that compressed what was compressed.
_MAX_CODINGS = 2
# RFC 9659 section 3: a zstd window is at most 8 MiB (2**23) in HTTP.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
# zlib's `wbits` (zlib manual, inflateInit2): 15 is the largest window, 16 more asks for gzip, negative for raw deflate.
_GZIP, _ZLIB, _RAW = 31, 15, -15

_MALFORMED: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError, brotli.error)


class BadEncoding(ExtprocError):
    """Say why a body cannot be decoded: unknown coding, malformed, truncated, trailing data or out of bounds."""


def decoder(content_encoding: str, *, max_ratio: int, max_bytes: int) -> Decoder | None:
    """Make the decoder for a Content-Encoding field value; None when there is nothing to decode.

    Known are gzip (x-gzip), deflate (in zlib's wrapping or raw), br and zstd, in any case, at most two of them; listed
    in the order in which they were applied, they are undone in reverse (RFC 9110 section 8.4). `max_bytes` bounds the
    decoded bytes; `max_ratio` bounds decoded bytes for each encoded byte so far, once 1 MiB was decoded. Both bounds
    hold for what comes between two codings too. Raises BadEncoding for an unknown coding and for more than two.
    """
    names = [name.strip(" \t").lower() for name in content_encoding.split(",")]
    codings = [_CODINGS.get(name) for name in names if name not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > _MAX_CODINGS:
        raise BadEncoding(f"content-encoding lists {len(codings)} codings, at most {_MAX_CODINGS} are decoded")
    bounds = _Bounds(max_ratio=max_ratio, max_bytes=max_bytes)
    stages = []
    for coding in reversed(codings):
        if coding is None:
            raise BadEncoding(f"content-encoding names an unknown coding, known are {', '.join(sorted(_CODINGS))}")
        stages.append(_Stage(coding, bounds))
    return Decoder(stages, bounds)


class Decoder:
    """Decode one body. After BadEncoding, and after `finish`, nothing more can be decoded."""

    __slots__ = ("_bounds", "_stages", "_usable")

    def __init__(self, stages: Sequence[_Stage], bounds: _Bounds) -> None:
        self._stages = stages
        self._bounds = bounds
        self._usable = True

    def feed(self, data: bytes) -> bytes:
        """Return all that can be decoded with these further bytes of the body; raise BadEncoding."""
        self._claim()
        pieces: list[bytes] = []
        for start in range(0, len(data), _SLICE_BYTES):
            encoded = data[start : start + _SLICE_BYTES]
            self._bounds.encoded += len(encoded)
            pieces.extend(_through(self._stages, encoded))
        self._usable = True
        return b"".join(pieces)

    def finish(self) -> bytes:
        """End the body and return what was held back, which is nothing for the codings we know.

        Raises BadEncoding if the body is truncated. A body of no bytes at all is complete: answers without content
        (HEAD, 304) carry the Content-Encoding of the content they do not have.
        """
        self._claim()
        for stage in self._stages:
            stage.finish()
        return b""

    def _claim(self) -> None:
        # Not usable until the call is through: whoever catches its error cannot go on with a hole in the body.
        if not self._usable:
            raise BadEncoding("the body has ended or could not be decoded: nothing more can be")
        self._usable = False


@dataclass(slots=True)
class _Bounds:
    """What all stages of one decoder may produce, against the bytes that came over the wire."""

    max_ratio: int
    max_bytes: int
    encoded: int = 0

    def check(self, decoded: int) -> None:
        if decoded > self.max_bytes:
            raise BadEncoding(f"the body decodes to more than {self.max_bytes} bytes")
        if decoded > _RATIO_FROM_BYTES and decoded > self.max_ratio * self.encoded:
            raise BadEncoding(f"the body decodes to more than {self.max_ratio} times its size")


class _Stage:
    """Undo one coding: members (gzip's word; zstd says frames) one after the other, or one where only one is legal."""

    __slots__ = ("_bounds", "_coding", "_decoded", "_member", "_members")

    def __init__(self, coding: _Coding, bounds: _Bounds) -> None:
        self._coding = coding
        self._bounds = bounds
        self._decoded = 0
        self._members = 0
        self._member: _Member | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decode lazily, so that a bound stops the work where it is passed."""
        while data:
            if self._member is None:
                self._member = self._open(data)
            try:
                for piece in self._member.pieces(data):
                    self._decoded += len(piece)
                    self._bounds.check(self._decoded)
                    if piece:
                        yield piece
            except _MALFORMED as error:
                raise BadEncoding(f"the body is not valid {self._coding.name}") from error
            if not self._member.ended:
                return
            data = self._member.rest
            self._member = None

    def finish(self) -> None:
        if self._member is not None:
            raise BadEncoding(f"the {self._coding.name} body is truncated")

    def _open(self, data: bytes) -> _Member:
        if self._members == self._coding.max_members:
            raise BadEncoding(f"more data follows the end of the {self._coding.name} body")
        self._members += 1
        return self._coding.open(data)


def _through(stages: Sequence[_Stage], data: bytes) -> Iterator[bytes]:
    """Send data down the stages piece by piece: nothing but the last stage's output is ever gathered."""
    if not stages:
        yield data
        return
    for piece in stages[0].pieces(data):
        yield from _through(stages[1:], piece)


class _Member(Protocol):
    """One gzip member, deflate stream, brotli stream or zstd frame; `rest` is what came after its end."""

    @property
    def ended(self) -> bool: ...

    @property
    def rest(self) -> bytes: ...

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Deflate:
    __slots__ = ("_stream",)

    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)

    @property
    def ended(self) -> bool:
        return self._stream.eof

    @property
    def rest(self) -> bytes:
        return self._stream.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        full = True
        # A full piece may have left output behind inside zlib, even when all input is consumed.
        # After the end there is none, and what follows the member stays in `unconsumed_tail` as well.
        while (data or full) and not self._stream.eof:
            piece = self._stream.decompress(data, _PIECE_BYTES)
            yield piece
            data = self._stream.unconsumed_tail
            full = len(piece) == _PIECE_BYTES


class _Zstd:
    __slots__ = ("_frame",)

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    @property
    def ended(self) -> bool:
        return self._frame.eof

    @property
    def rest(self) -> bytes:
        return self._frame.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._frame.decompress(data, _PIECE_BYTES)
        while not (self._frame.needs_input or self._frame.eof):
            yield self._frame.decompress(b"", _PIECE_BYTES)


class _BrotliDecompressor(Protocol):
    """Type the part of `brotli.Decompressor` that we use."""

    def process(self, data: bytes, *, output_buffer_limit: int) -> bytes: ...

    def is_finished(self) -> bool: ...


class _Brotli:
    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream: _BrotliDecompressor = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return self._stream.is_finished()

    @property
    def rest(self) -> bytes:
        # The library itself refuses data after the end.
        return b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        # Only an empty piece says that nothing was left behind: after a flush the library may give less than it was
        # allowed and keep the rest, and `can_accept_more_data` speaks of input alone (brotli 1.2.1).
        piece = self._stream.process(data, output_buffer_limit=_PIECE_BYTES)
        while piece:
            yield piece
            piece = self._stream.process(b"", output_buffer_limit=_PIECE_BYTES)


@dataclass(frozen=True, slots=True)
class _Coding:
    name: str
    max_members: int
    open: Callable[[bytes], _Member]


def _open_deflate(data: bytes) -> _Deflate:
    """Tell zlib's wrapping, which RFC 9110 section 8.4.1.2 means, from the raw deflate that some servers send.

    The low half of zlib's first byte is the method, 8 (RFC 1950 section 2.2). In raw deflate these bits would begin a
    stored block with a bit set in its padding (RFC 1951 section 3.2.4), which no compressor writes.
    """
    return _Deflate(_ZLIB if data[0] & 0x0F == 8 else _RAW)


_GZIP_CODING = _Coding("gzip", _MAX_MEMBERS, lambda _data: _Deflate(_GZIP))
_CODINGS = {
    "br": _Coding("br", 1, lambda _data: _Brotli()),
    "deflate": _Coding("deflate", 1, _open_deflate),
    "gzip": _GZIP_CODING,
    "x-gzip": _GZIP_CODING,
    "zstd": _Coding("zstd", _MAX_MEMBERS, lambda _data: _Zstd()),
}
