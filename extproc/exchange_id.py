"""The id of an exchange, which is its decision id too."""

from __future__ import annotations

import secrets


def exchange_id(now: float) -> str:
    """Make an id that sorts by time: 48 bits of milliseconds, 80 random bits, in hex (the idea of UUIDv7, RFC 9562)."""
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
