"""A file with a secret key of random bytes, made once; beside it its SHA-256, by which its loss is noticed."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from extproc.errors import ConfigError
from extproc.keys.new_file import create_once


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A kind of key: what it is called, how many bytes it has, and what is lost without it."""

    what: str
    size: int
    loss: str

    def load(self, path: Path) -> bytes:
        """Return the key; raises ConfigError where the file is missing, or is not the key that was made here."""
        try:
            with path.open("rb") as file:
                key = file.read(self.size + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {self.what} cannot be read: {error.strerror}") from error
        if len(key) != self.size:
            raise ConfigError(f"{path}: expected the {self.size} bytes of a key; {self.loss}")
        if (made := _digest_of_made(path)) is not None and made != _digest(key):
            raise ConfigError(f"{path}: this is not {self.what} that {digest_path(path)} is of; {self.loss}")
        return key

    def load_or_create(self, path: Path) -> bytes:
        """Return the key, and make one with mode 0600 if there never was one.

        The file appears whole or not at all, and of two processes that start at once both end up with the same key.
        Raises ConfigError as `load` does, and where the file cannot be made, or was there and is gone.
        """
        if not path.exists():
            if _digest_of_made(path) is not None:
                raise ConfigError(
                    f"{path}: {self.what} is gone: restore it. {self.loss[0].upper()}{self.loss[1:]}; to begin with"
                    f" another one all the same, remove {digest_path(path)}"
                )
            try:
                create_once(path, secrets.token_bytes(self.size))
            except OSError as error:
                raise ConfigError(f"{path}: {self.what} cannot be made: {error.strerror}") from error
        key = self.load(path)
        # A mounted secret has a folder that cannot be written, and somebody who looks after it.
        with suppress(OSError):
            create_once(digest_path(path), f"{_digest(key)}\n".encode())
        return key


def digest_path(path: Path) -> Path:
    """Return where the SHA-256 of a key is; the key itself cannot be told from it."""
    return path.with_name(f"{path.name}.sha256")


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def _digest_of_made(path: Path) -> str | None:
    try:
        return digest_path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
