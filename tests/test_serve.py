from __future__ import annotations

import socket
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.serve import clear_socket


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s"
    clear_socket(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    clear_socket(path)
    assert not path.exists()


def test_a_file_in_the_way_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        clear_socket(path)
    assert path.read_text() == "precious"


def test_the_socket_of_a_living_process_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ConfigError, match="another process serves"):
            clear_socket(path)
    assert path.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use"):
        clear_socket(tmp_path / "file" / "s")
