"""The authority's folder: one command at a time, files that are there whole or not at all, readable errors."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from extproc.durable import sync_folder
from extproc.errors import ConfigError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MIN_RSA_BITS = 2048  # the least that NIST SP 800-57 part 1 and today's clients accept
_LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder: a second command waits until the first is done. The kernel lets go when the process ends."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_key(path: Path, key: PrivateKey) -> None:
    """Put a private key in place, PKCS #8, with mode 0600. Raises OSError."""
    _prepare(path, _pem_of_key(key), 0o600).replace(path)
    sync_folder(path.parent)


def write_certificates(path: Path, certificates: Sequence[x509.Certificate]) -> None:
    """Put certificates in place, in this order. Raises OSError."""
    _prepare(path, pem_of(certificates), 0o644).replace(path)
    sync_folder(path.parent)


def write_pair(key_path: Path, key: PrivateKey, path: Path, certificates: Sequence[x509.Certificate]) -> None:
    """Put a key and then its certificates in place, in the same folder. Raises OSError.

    Both are complete on the disk before either is renamed, so that they disagree for a moment only.
    """
    prepared = _prepare(key_path, _pem_of_key(key), 0o600), _prepare(path, pem_of(certificates), 0o644)
    for temporary, final in zip(prepared, (key_path, path), strict=True):
        temporary.replace(final)
    sync_folder(path.parent)


def pem_of(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return certificates as one PEM text."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Read one or more PEM certificates; raises ConfigError, FileNotFoundError where there is no file."""
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except ValueError:
        raise ConfigError(f"{path}: expected one or more certificates in PEM") from None


def read_key(path: Path) -> PrivateKey:
    """Read a PEM private key, EC or RSA; raises ConfigError, FileNotFoundError where there is no file."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except TypeError:
        raise ConfigError(f"{path}: the key is encrypted: expected one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: expected a private key in PEM") from None
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{path}: expected an EC or RSA key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA_BITS:
        raise ConfigError(f"{path}: expected an RSA key of at least {_MIN_RSA_BITS} bits, got {key.key_size}")
    return key


def matches(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Say whether a certificate is for this key."""
    return certificate.public_key() == key.public_key()


def _pem_of_key(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _prepare(path: Path, content: bytes, mode: int) -> Path:
    """Write what is to replace `path` beside it: by a rename, which Envoy notices and no reader sees half done."""
    temporary = path.with_name(f".{path.name}.new")
    # What a crash left; the lock keeps others out. O_EXCL, so that the mode is this one and no link is followed.
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary
