"""The file with the key-encryption key: it wraps the data keys of sessions, and never stands in a store.

Wrapping is AES Key Wrap (RFC 3394, NIST SP 800-38F): made for keys, checks 64 bits of integrity, and needs no nonce
that could repeat. The padding of RFC 5649 would halve that check for nothing: data keys are whole blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from extproc.keys.key_file import KeyFile
from extproc.recording.envelope import CannotOpen

FILE_NAME: Final = "wrapping.key"
"""Its name in the state directory."""

KEY_BYTES: Final = 32
"""AES-256."""


class WrappingKey:
    """Wrap and unwrap with one key; for `Envelope`, from any thread."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key-encryption key has {KEY_BYTES} bytes")
        self._key = key

    def wrap(self, data_key: bytes) -> bytes:
        """Return a data key of whole 8-byte blocks, encrypted."""
        return aes_key_wrap(self._key, data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return a data key that was wrapped with this key; raises CannotOpen."""
        try:
            return aes_key_unwrap(self._key, wrapped)
        except InvalidUnwrap:
            raise CannotOpen("a data key", "the key-encryption key here is not the one that wrapped it") from None


_KIND: Final = KeyFile("the key-encryption key", KEY_BYTES, "no other key opens what it encrypted")


def load_wrapping_key(path: Path) -> WrappingKey:
    """Return the key in the file; raises ConfigError."""
    return WrappingKey(_KIND.load(path))


def load_or_create_wrapping_key(path: Path) -> WrappingKey:
    """Return the key in the file, and make one if there never was one; raises ConfigError."""
    return WrappingKey(_KIND.load_or_create(path))
