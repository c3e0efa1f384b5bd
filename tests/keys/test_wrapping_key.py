from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.keys.wrapping_key import WrappingKey, load_or_create_wrapping_key, load_wrapping_key
from extproc.recording.envelope import CannotOpen

SECRET = bytes(range(64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "wrapping.key"


def test_a_key_is_made_once_readable_by_its_owner_only(path: Path) -> None:
    wrapped = load_or_create_wrapping_key(path).wrap(SECRET)
    key = path.read_bytes()
    assert len(key) == 32
    assert len(set(key)) > 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_wrapping_key(path).unwrap(wrapped) == SECRET
    assert load_wrapping_key(path).unwrap(wrapped) == SECRET
    assert path.read_bytes() == key


def test_many_at_once_get_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        wrapped = [key.wrap(SECRET) for key in pool.map(load_or_create_wrapping_key, [path] * 32)]
    assert {load_wrapping_key(path).unwrap(one) for one in wrapped} == {SECRET}
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}.sha256"]


def test_wrapping_is_that_of_rfc_3394() -> None:
    # Section 4.6: 256 bits of key data with a 256-bit key-encryption key.
    key = WrappingKey(bytes(range(32)))
    data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
    assert key.wrap(data) == wrapped
    assert key.unwrap(wrapped) == data


def test_another_keys_or_changed_bytes_are_not_unwrapped_and_no_key_is_told() -> None:
    key = WrappingKey(b"K" * 32)
    wrapped = key.wrap(SECRET)
    others = [WrappingKey(b"L" * 32).wrap(SECRET), wrapped[:-8], wrapped[:-1], b"", wrapped[:-1] + b"\0"]
    for one in others:
        with pytest.raises(CannotOpen, match="is not the one that wrapped it") as caught:
            key.unwrap(one)
        assert "KKK" not in str(caught.value)
    assert "KKK" not in repr(key)


@pytest.mark.parametrize("length", [0, 31, 33])
@pytest.mark.parametrize("load", [load_wrapping_key, load_or_create_wrapping_key])
def test_a_file_of_another_length_is_told_and_left_alone(
    path: Path, length: int, load: Callable[[Path], WrappingKey]
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"S" * length)
    with pytest.raises(ConfigError, match=r"wrapping\.key: expected the 32 bytes of a key") as caught:
        load(path)
    assert "SSS" not in str(caught.value)
    assert path.read_bytes() == b"S" * length


def test_a_missing_file_is_told_and_not_made_by_reading(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wrapping\.key: the key-encryption key cannot be read: No such file"):
        load_wrapping_key(path)
    assert not path.exists()


def test_a_place_that_cannot_hold_a_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: "):
        load_or_create_wrapping_key(tmp_path / "file" / "wrapping.key")
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_or_create_wrapping_key(tmp_path / "folder.key")
