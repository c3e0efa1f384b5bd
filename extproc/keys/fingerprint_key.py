"""The file with the key of the fingerprints of findings."""

from __future__ import annotations

import secrets
from pathlib import Path

from extproc.errors import ConfigError
from extproc.keys.new_file import create_once
from extproc.masking.fingerprint import KEY_BYTES

FILE_NAME = "fingerprint.key"
"""Its name in the state directory."""


def load_key(path: Path) -> bytes:
    """Return the 32 bytes of the file; raises ConfigError where it is missing or anything else."""
    try:
        with path.open("rb") as file:
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the key of the fingerprints cannot be read: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: expected the {KEY_BYTES} bytes of a key; findings made with another key match none")
    return key


def load_or_create_key(path: Path) -> bytes:
    """Return the key in the file, and make one there with mode 0600 if there is no file.

    The file appears whole or not at all, and of two processes that start at once both end up with the same key.
    Raises ConfigError as `load_key` does, and where the file cannot be made.
    """
    try:
        if not path.exists():
            create_once(path, secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: the key of the fingerprints cannot be made: {error.strerror}") from error
    return load_key(path)
