"""The file with the key of the gateway's own tokens; replicas share it, so that each takes what another minted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from extproc.identity.gateway_token import KEY_BYTES
from extproc.keys.key_file import KeyFile

FILE_NAME: Final = "gateway-token.key"
"""Its name in the state directory."""

PREVIOUS: Final = "gateway-token.previous.key"
"""The one before it: its tokens are still taken, so that nobody notices that the key was replaced."""

_KIND: Final = KeyFile(
    "the key of the gateway's tokens",
    KEY_BYTES,
    "tokens minted with another key are refused, and clients ask for new ones",
)


def load_or_create_key(path: Path) -> bytes:
    """Return the key in the file, and make one if there never was one; raises ConfigError."""
    return _KIND.load_or_create(path)


def load_keys(path: Path) -> list[bytes]:
    """Return the key that mints, made if there never was one, and the one before it where that is kept beside it.

    Raises ConfigError.
    """
    previous = path.with_name(PREVIOUS)
    return [load_or_create_key(path), *([_KIND.load(previous)] if previous.exists() else [])]
