from __future__ import annotations

from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.keys.key_file import KeyFile, digest_path

KIND = KeyFile("the key of the vault", 32, "nothing else opens it")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    KIND.load_or_create(tmp_path / "vault.key")
    return tmp_path / "vault.key"


def test_a_key_that_is_gone_is_not_made_anew(path: Path) -> None:
    path.unlink()
    with pytest.raises(ConfigError, match=r"vault\.key: the key of the vault is gone: restore it\. Nothing else"):
        KIND.load_or_create(path)
    assert not path.exists()


def test_who_wants_another_key_says_so_by_removing_what_is_known_of_the_first(path: Path) -> None:
    first = path.read_bytes()
    path.unlink()
    digest_path(path).unlink()
    assert KIND.load_or_create(path) != first


def test_another_key_in_its_place_is_refused(path: Path) -> None:
    path.write_bytes(bytes(32))
    for load in (KIND.load, KIND.load_or_create):
        with pytest.raises(ConfigError, match=r"this is not the key of the vault that .*vault\.key\.sha256 is of"):
            load(path)


def test_a_key_that_somebody_else_put_there_is_used_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(bytes(range(32)))
    assert KIND.load_or_create(path) == KIND.load(path) == bytes(range(32))
    assert digest_path(path).exists()


def test_what_is_remembered_tells_nothing_of_the_key(path: Path) -> None:
    assert path.read_bytes().hex() not in digest_path(path).read_text()
    assert path.read_bytes() not in digest_path(path).read_bytes()
