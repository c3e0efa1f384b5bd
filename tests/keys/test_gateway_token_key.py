from __future__ import annotations

import stat
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.identity.gateway_token import GatewayTokens
from extproc.identity.principal import Principal
from extproc.keys.gateway_token_key import FILE_NAME, load_or_create_key

ALICE = Principal("https://idp.example#alice", "Alice", "person", "https://idp.example", "alice")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / FILE_NAME


def test_a_key_is_made_once_readable_by_its_owner_only(path: Path) -> None:
    key = load_or_create_key(path)
    assert len(set(key)) > 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == path.read_bytes() == key
    assert sorted(one.name for one in path.parent.iterdir()) == ["gateway-token.key", "gateway-token.key.sha256"]


def test_replicas_that_share_the_file_take_each_others_tokens_and_no_others(path: Path, tmp_path: Path) -> None:
    here, replica = GatewayTokens([load_or_create_key(path)]), GatewayTokens([load_or_create_key(path)])
    assert replica.read(here.mint(ALICE, 0, "id").token.reveal(), 0).principal == ALICE
    assert load_or_create_key(tmp_path / "elsewhere" / FILE_NAME) != load_or_create_key(path)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_file_of_another_length_is_told_and_left_alone(path: Path, length: int) -> None:
    path.parent.mkdir()
    path.write_bytes(b"S" * length)
    with pytest.raises(ConfigError, match=r"gateway-token\.key: expected the 32 bytes of a key") as caught:
        load_or_create_key(path)
    assert "SSS" not in str(caught.value)
    assert path.read_bytes() == b"S" * length


def test_a_key_that_is_gone_is_told_and_not_replaced(path: Path) -> None:
    load_or_create_key(path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"gateway-token\.key: the key of the gateway's tokens is gone"):
        load_or_create_key(path)
    assert not path.exists()
