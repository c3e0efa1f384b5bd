from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from extproc.errors import ConfigError
from extproc.keys.checkpoint_key import load_or_create_signer, load_public_key, load_signer, public_path
from extproc.recording.checkpoint import Checkpoint, Signer, open_note

NAME = "gateway.example"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "checkpoint.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pem(
    key: Ed25519PrivateKey | X25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def write(path: Path, content: bytes, permissions: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(permissions)


def same(one: Signer, other: Signer) -> bool:
    return one.key.private_bytes_raw() == other.key.private_bytes_raw() and one.name == other.name


def test_a_key_is_made_once_readable_by_its_owner_only(path: Path) -> None:
    signer = load_or_create_signer(path, NAME)
    assert mode(path) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert isinstance(load_pem_private_key(path.read_bytes(), None), Ed25519PrivateKey)
    assert same(load_or_create_signer(path, NAME), signer)
    assert same(load_signer(path, NAME), signer)


def test_the_public_key_is_beside_it_for_everybody_and_opens_what_is_signed(path: Path) -> None:
    signer = load_or_create_signer(path, NAME)
    public = public_path(path)
    assert sorted(one.name for one in path.parent.iterdir()) == ["checkpoint.key", "checkpoint.key.pub"]
    assert public.read_text() == f"{signer.vkey}\n"
    assert mode(public) == 0o644
    checkpoint = Checkpoint(f"{NAME}/log", 1, b"r" * 32, 1)
    assert open_note(signer.sign(checkpoint), [load_public_key(public)]) == checkpoint


def test_two_files_have_two_keys(tmp_path: Path) -> None:
    one, other = (load_or_create_signer(tmp_path / name, NAME) for name in ("a.key", "b.key"))
    assert one.vkey != other.vkey


def test_many_at_once_get_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {signer.vkey for signer in pool.map(lambda _: load_or_create_signer(path, NAME), range(32))}
    assert keys == {public_path(path).read_text().strip()}
    assert len(list(path.parent.iterdir())) == 2


def test_a_public_key_that_is_missing_is_put_there_again(path: Path) -> None:
    signer = load_or_create_signer(path, NAME)
    public_path(path).unlink()
    load_or_create_signer(path, NAME)
    assert load_public_key(public_path(path)) == signer.public


def test_the_public_key_of_before_is_told_and_left_alone(path: Path) -> None:
    before = load_or_create_signer(path, NAME).vkey
    with pytest.raises(ConfigError, match=r"checkpoint\.key\.pub: expected renamed\.example\+.* older checkpoints"):
        load_or_create_signer(path, "renamed.example")
    path.unlink()
    with pytest.raises(ConfigError, match=r"checkpoint\.key\.pub: expected gateway\.example\+"):
        load_or_create_signer(path, NAME)
    assert public_path(path).read_text().strip() == before


def test_loading_makes_no_file(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.key: the key .* cannot be read: No such file"):
        load_signer(path, NAME)
    with pytest.raises(ConfigError, match=r"checkpoint\.key\.pub: the public key .* cannot be read: No such file"):
        load_public_key(public_path(path))
    write(path, pem(Ed25519PrivateKey.generate()))
    load_signer(path, NAME)
    assert [one.name for one in path.parent.iterdir()] == ["checkpoint.key"]


@pytest.mark.parametrize("permissions", [0o644, 0o604, 0o602, 0o620, 0o666, 0o601])
@pytest.mark.parametrize("load", [load_signer, load_or_create_signer])
def test_a_key_that_others_could_have_read_or_changed_is_refused(
    path: Path, permissions: int, load: Callable[[Path, str], Signer]
) -> None:
    write(path, pem(Ed25519PrivateKey.generate()), permissions)
    with pytest.raises(ConfigError, match=rf"checkpoint\.key: .* has mode {permissions:04o}: .* expected 0600"):
        load(path, NAME)
    assert mode(path) == permissions


@pytest.mark.parametrize("permissions", [0o400, 0o600, 0o440, 0o640])
def test_a_key_that_only_its_group_may_read_too_is_taken(path: Path, permissions: int) -> None:
    write(path, pem(Ed25519PrivateKey.generate()), permissions)
    assert load_signer(path, NAME).name == NAME


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an Ed25519 key in PKCS #8 PEM"),
        (b"SECRET text", "expected an Ed25519 key in PKCS #8 PEM"),
        (b"\xff" * 100_000, "expected an Ed25519 key in PKCS #8 PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n", "expected an Ed25519 key in PKCS"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"word")), "without a password"),
        (pem(X25519PrivateKey.generate()), "expected an Ed25519 key, and this is another kind"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "expected an Ed25519 key, and this is another kind"),
    ],
)
@pytest.mark.parametrize("load", [load_signer, load_or_create_signer])
def test_a_file_that_is_no_such_key_is_told_and_left_alone(
    path: Path, content: bytes, message: str, load: Callable[[Path, str], Signer]
) -> None:
    write(path, content)
    with pytest.raises(ConfigError, match=rf"checkpoint\.key: {message}|checkpoint\.key: .*{message}") as caught:
        load(path, NAME)
    assert "SECRET" not in str(caught.value)
    assert path.read_bytes() == content
    assert not public_path(path).exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"text", b"a+b+c", b"x" * 100_000])
def test_a_file_that_is_no_public_key_is_told(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(ConfigError, match=r"checkpoint\.key: expected "):
        load_public_key(path)


def test_a_name_that_notes_cannot_carry_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match="'two words' cannot sign"):
        load_or_create_signer(path, "two words")


def test_a_place_that_cannot_hold_a_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"checkpoint\.key: .* cannot be made: "):
        load_or_create_signer(tmp_path / "file" / "checkpoint.key", NAME)
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.key: .* cannot be read: Is a directory"):
        load_or_create_signer(tmp_path / "folder.key", NAME)
    (tmp_path / "one.key.pub").mkdir()
    with pytest.raises(ConfigError, match=r"one\.key\.pub: .* cannot be read: Is a directory"):
        load_or_create_signer(tmp_path / "one.key", NAME)
