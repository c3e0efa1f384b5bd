"""The file with the key of the fingerprints of findings and of proposed lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from extproc.keys.key_file import KeyFile
from extproc.masking.fingerprint import KEY_BYTES

FILE_NAME = "fingerprint.key"
"""Its name in the state directory."""

_KIND: Final = KeyFile("the key of the fingerprints", KEY_BYTES, "findings made with another key match none")


def load_key(path: Path) -> bytes:
    """Return the 32 bytes of the file; raises ConfigError."""
    return _KIND.load(path)


def load_or_create_key(path: Path) -> bytes:
    """Return the key in the file, and make one if there never was one; raises ConfigError."""
    return _KIND.load_or_create(path)
