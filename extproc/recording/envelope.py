"""Encrypt bodies and blobs with one data key per session, stored wrapped by a key the store does not have. Pure.

Once the wrapped data key is erased, nobody can read what it encrypted; hashes are over what is stored, so everything
still verifies. A store that hands out another session's bytes is noticed: the session is authenticated with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from extproc.errors import ExtprocError
from extproc.recording.entry import WrappedKey

KEY_BYTES: Final = 64
"""A data key: two AES-256 keys (RFC 5297 section 2.2, AEAD_AES_SIV_CMAC_512)."""

_OPEN_KEYS: Final = 1000
"""Data keys kept open: sessions that are recorded, or read, at the same time."""


class CannotOpen(ExtprocError):
    """Say what cannot be decrypted, and why."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} cannot be opened: {why}")
        self.why = why


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of a session's content, open. `wrapped` is what is stored of it (`WrappedKey`)."""

    id: str
    session: str
    wrapped: bytes
    _cipher: AESSIV = field(repr=False, compare=False)

    def protect(self, plain: bytes) -> bytes:
        """Encrypt, the same bytes to the same: so a session stores what it repeats once, and shows that it repeats.

        AES-SIV (RFC 5297), deterministic as in section 6; the associated data is the session.
        """
        return self._cipher.encrypt(plain, [self.session.encode()])

    def reveal(self, stored: bytes) -> bytes:
        """Return what was protected; raises CannotOpen."""
        try:
            return self._cipher.decrypt(stored, [self.session.encode()])
        except (InvalidTag, ValueError):
            why = f"it was not encrypted for session {self.session} with data key {self.id}, or was changed"
            raise CannotOpen("what the store has", why) from None


class Envelope:
    """Make and open data keys.

    `wrap` encrypts with the key-encryption key; `unwrap` undoes that, or raises CannotOpen where this key did not
    encrypt it; whatever else they raise passes. `random` gives so many random bytes. For several threads.
    """

    def __init__(
        self, wrap: Callable[[bytes], bytes], unwrap: Callable[[bytes], bytes], random: Callable[[int], bytes]
    ) -> None:
        self._wrap = wrap
        self._unwrap = unwrap
        self._random = random
        self._remembered = lru_cache(_OPEN_KEYS)(self._opened)

    def new_key(self, session: str, key_id: str) -> DataKey:
        """Return a new data key."""
        secret = self._random(KEY_BYTES)
        return DataKey(key_id, session, self._wrap(secret), AESSIV(secret))

    def open(self, wrapped: WrappedKey) -> DataKey:
        """Return a stored data key, open; raises CannotOpen."""
        return self._remembered(wrapped)

    def _opened(self, wrapped: WrappedKey) -> DataKey:
        name = f"data key {wrapped.id} of session {wrapped.session}"
        try:
            secret = self._unwrap(wrapped.wrapped)
        except CannotOpen as error:
            raise CannotOpen(name, error.why) from None
        if len(secret) != KEY_BYTES:
            raise CannotOpen(name, f"it has {len(secret)} bytes, not {KEY_BYTES}")
        return DataKey(wrapped.id, wrapped.session, wrapped.wrapped, AESSIV(secret))
