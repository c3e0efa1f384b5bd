from __future__ import annotations

import stat
from pathlib import Path

import pytest

from extproc.keys.new_file import create_once


def test_a_key_file_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.key"
    create_once(path, b"first")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["a.key"]


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    create_once(path, b"first")
    create_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["a.key"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        create_once(tmp_path / "file" / "a.key", b"x")
