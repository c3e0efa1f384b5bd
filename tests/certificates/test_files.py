from __future__ import annotations

import fcntl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from extproc.certificates import files
from extproc.errors import ConfigError

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: files.PrivateKey | ed25519.Ed25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    sealed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)


def test_a_key_is_for_its_owner_alone_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    path.write_text("open")
    path.chmod(0o644)
    (tmp_path / ".ca.key.new").write_text("what a crash left, open to all")
    (tmp_path / ".ca.key.new").chmod(0o666)
    files.write_key(path, KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.read_key(path).public_key() == KEY.public_key()
    assert [one.name for one in tmp_path.iterdir()] == ["ca.key"]


def test_a_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    files.write_key(path, KEY)
    with path.open("rb") as before:
        files.write_key(path, ec.generate_private_key(ec.SECP256R1()))
        assert before.read() == pem(KEY)  # who had it open still reads the whole old one


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    for name in ("ca.key", ".ca.key.new"):
        (tmp_path / name).symlink_to(elsewhere)
    files.write_key(tmp_path / "ca.key", KEY)
    assert elsewhere.read_text() == "precious"
    assert not (tmp_path / "ca.key").is_symlink()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected a private key in PEM"),
        (pem(KEY, b"secret"), "the key is encrypted"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "expected an EC or RSA key"),
        (pem(rsa.generate_private_key(65537, 1024)), "at least 2048 bits, got 1024"),  # noqa: S505 - it is refused
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "some.key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as raised:
        files.read_key(path)
    assert str(path) in str(raised.value)
    assert "AAAA" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem: expected one or more certificates in PEM"):
        files.read_certificates(tmp_path / "ca.pem")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with files.locked(tmp_path), (tmp_path / ".lock").open() as another, pytest.raises(BlockingIOError):
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / ".lock").open() as another:
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
