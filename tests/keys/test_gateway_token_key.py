from __future__ import annotations

import stat
from pathlib import Path

import pytest

from extproc.errors import ConfigError, Refused
from extproc.identity.gateway_token import GatewayTokens
from extproc.identity.principal import Principal
from extproc.keys.gateway_token_key import FILE_NAME, PREVIOUS, load_keys, load_or_create_key
from extproc.keys.key_file import digest_path

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


def test_without_a_previous_key_there_is_the_one_that_mints(path: Path) -> None:
    assert load_keys(path) == [load_or_create_key(path)]


def test_tokens_of_the_previous_key_are_read_and_none_is_minted_with_it(path: Path) -> None:
    old = load_or_create_key(path)
    path.rename(path.with_name(PREVIOUS))
    digest_path(path).unlink()
    new, previous = load_keys(path)
    assert previous == old != new == path.read_bytes()
    before, between, after = GatewayTokens([old]), GatewayTokens([new, previous]), GatewayTokens([new])
    assert between.read(before.mint(ALICE, 0, "id").token.reveal(), 0).principal == ALICE
    minted = between.mint(ALICE, 0, "id").token.reveal()
    assert after.read(minted, 0).principal == ALICE
    with pytest.raises(Refused):
        before.read(minted, 0)


def test_once_the_previous_key_is_removed_its_tokens_are_refused(path: Path) -> None:
    token = GatewayTokens([load_or_create_key(path)]).mint(ALICE, 0, "id").token.reveal()
    path.rename(path.with_name(PREVIOUS))
    digest_path(path).unlink()
    assert GatewayTokens(load_keys(path)).read(token, 0).principal == ALICE
    path.with_name(PREVIOUS).unlink()
    with pytest.raises(Refused):
        GatewayTokens(load_keys(path)).read(token, 0)


def test_a_previous_key_that_is_none_is_told(path: Path) -> None:
    load_or_create_key(path)
    path.with_name(PREVIOUS).write_bytes(b"S" * 31)
    with pytest.raises(ConfigError, match=r"gateway-token\.previous\.key: expected the 32 bytes of a key"):
        load_keys(path)
