"""Compress an answer part by part, each part readable as soon as it arrived."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import brotli  # type: ignore[import-untyped]  # it ships no types

try:
    from backports import zstd
except ModuleNotFoundError:  # since Python 3.14 the same module is in the standard library
    from compression import zstd  # type: ignore[import-not-found, no-redef]

_GZIP_WINDOW = 31  # zlib: the largest window (15) plus 16 for the gzip format
_ZLIB_WINDOW = 15


def _zlib(parts: Iterable[bytes], window: int) -> Iterator[bytes]:
    compressor = zlib.compressobj(wbits=window)
    for part in parts:
        yield compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()


def _brotli(parts: Iterable[bytes]) -> Iterator[bytes]:
    compressor = brotli.Compressor()
    for part in parts:
        yield compressor.process(part) + compressor.flush()
    yield compressor.finish()


def _zstd(parts: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zstd.ZstdCompressor()
    for part in parts:
        yield compressor.compress(part, compressor.FLUSH_BLOCK)
    yield compressor.flush()


ENCODERS: Mapping[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = MappingProxyType(
    {
        "gzip": lambda parts: _zlib(parts, _GZIP_WINDOW),
        "deflate": lambda parts: _zlib(parts, _ZLIB_WINDOW),
        "br": _brotli,
        "zstd": _zstd,
    }
)
"""What compresses a body, by its name in Content-Encoding (RFC 9110 section 8.4.1)."""
