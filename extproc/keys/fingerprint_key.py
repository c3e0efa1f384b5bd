"""The file with the key of the fingerprints of findings."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from extproc.errors import ConfigError
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
            _create(path)
    except OSError as error:
        raise ConfigError(f"{path}: the key of the fingerprints cannot be made: {error.strerror}") from error
    return load_key(path)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600, so the key is never readable by others, not even while it is written.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace the key that another process may have put there meanwhile.
        path.hardlink_to(temporary)
        _sync(path.parent)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


# Records with fingerprints of a key that a power cut took could never be matched.
def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
