"""Tell equal secrets by a keyed fingerprint: a bare hash of a short secret could be found by trying."""

from __future__ import annotations

import hmac

KEY_BYTES = 32

# Another use of the same key can never give the same value.
_PURPOSE = b"extproc finding fingerprint v1\0"
_HEX_DIGITS = 32


class Fingerprints:
    """Make the fingerprints of one key; `repr` and pickling hide or refuse the key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take the key; raises ValueError below 32 bytes, the length of the hash (RFC 2104 section 3)."""
        if len(key) < KEY_BYTES:
            raise ValueError(f"expected a key of at least {KEY_BYTES} bytes, got {len(key)}")
        self._key = key

    def of(self, secret: str | bytes) -> str:
        """Return 32 hex digits, half of an HMAC-SHA256; text counts as its UTF-8."""
        # JSON may hold halves of characters, which have no UTF-8 of their own.
        data = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        return hmac.digest(self._key, _PURPOSE + data, "sha256").hex()[:_HEX_DIGITS]

    def __repr__(self) -> str:
        return "Fingerprints(hidden)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is not serialised")
