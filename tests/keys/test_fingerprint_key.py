from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.keys.fingerprint_key import load_key, load_or_create_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "fingerprint.key"


def test_a_key_is_made_once_readable_by_its_owner_only(path: Path) -> None:
    key = load_or_create_key(path)
    assert len(key) == 32
    assert len(set(key)) > 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == load_key(path) == key
    assert [one.name for one in path.parent.iterdir()] == ["fingerprint.key", "fingerprint.key.sha256"]


def test_many_at_once_get_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_or_create_key, [path] * 32))
    assert keys == {path.read_bytes()}
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}.sha256"]


@pytest.mark.parametrize("length", [0, 31, 33])
@pytest.mark.parametrize("load", [load_key, load_or_create_key])
def test_a_file_of_another_length_is_told_and_left_alone(
    path: Path, length: int, load: Callable[[Path], bytes]
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"S" * length)
    with pytest.raises(ConfigError, match=r"fingerprint\.key: expected the 32 bytes of a key") as caught:
        load(path)
    assert "SSS" not in str(caught.value)
    assert path.read_bytes() == b"S" * length


def test_a_missing_file_is_told_and_not_made_by_reading(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fingerprint\.key: the key .* cannot be read: No such file"):
        load_key(path)
    assert not path.exists()


def test_a_place_that_cannot_hold_a_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: "):
        load_or_create_key(tmp_path / "file" / "fingerprint.key")
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_or_create_key(tmp_path / "folder.key")
