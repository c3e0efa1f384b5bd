"""The file with the key that signs checkpoints, and beside it the one that they are checked with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from extproc.errors import ConfigError
from extproc.keys.new_file import create_once
from extproc.recording.checkpoint import PublicKey, Signer

FILE_NAME = "checkpoint.key"
"""Its name in the state directory."""

MAX_BYTES = 16 * 1024
"""Longest file that is read; such a key has some 120 bytes."""


def public_path(path: Path) -> Path:
    """Return where the public key of a private key file is: beside it, with `.pub` at the end."""
    return path.with_name(f"{path.name}.pub")


def load_public_key(path: Path) -> PublicKey:
    """Return the key of a `.pub` file, with which checkpoints are checked; raises ConfigError."""
    try:
        with path.open("rb") as file:
            return PublicKey.parse(file.read(MAX_BYTES).decode())
    except OSError as error:
        raise ConfigError(f"{path}: the public key of the checkpoints cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected the text of a public key") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def load_signer(path: Path, name: str) -> Signer:
    """Return who signs under this name with the key of the file, an Ed25519 key in PKCS #8 PEM; raises ConfigError.

    Its group may read the file (Kubernetes mounts secrets so), but nobody else.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read(MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: the key of the checkpoints cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"{path}: the key of the checkpoints has mode {mode:04o}: others could sign; expected 0600")
    try:
        key = load_pem_private_key(pem, password=None)
    # TypeError is for a key with a password.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: expected an Ed25519 key in PKCS #8 PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key, and this is another kind")
    return Signer(name, key)


def load_or_create_signer(path: Path, name: str) -> Signer:
    """Return who signs under this name with the key of the file, and make the file with mode 0600 if there is none.

    The public key is put beside it if it is not there. Of processes that start at once all end up with the same key.
    Raises ConfigError as `load_signer` does, where a file cannot be made, and where the public key beside is another.
    """
    try:
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            create_once(path, pem)
    except OSError as error:
        raise ConfigError(f"{path}: the key of the checkpoints cannot be made: {error.strerror}") from error
    signer = load_signer(path, name)
    _publish(public_path(path), signer.public)
    return signer


# The old one is not overwritten: what was signed before can be checked with nothing else.
def _publish(path: Path, key: PublicKey) -> None:
    try:
        if not path.exists():
            create_once(path, f"{key.vkey}\n".encode())
            path.chmod(0o644)
    except OSError as error:
        raise ConfigError(f"{path}: the public key of the checkpoints cannot be made: {error.strerror}") from error
    if load_public_key(path) != key:
        raise ConfigError(
            f"{path}: expected {key.vkey}; keep the one that is there elsewhere, as older checkpoints need it"
        )
