from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.keys.checkpoint_key import load_or_create_signer, public_path
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.keys.key_file import digest_path
from extproc.keys.shared_keys import install, make, shared_keys

NAMES = ("checkpoint.key", "fingerprint.key", "gateway-token.key")
KEYS = shared_keys("copilot-extproc")
NEEDED = [key for key in KEYS if not key.optional]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make(tmp_path / "made", NEEDED)
    return tmp_path / "made"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_for_their_owner_alone(source: Path) -> None:
    assert {name: mode(source / name) for name in NAMES} == dict.fromkeys(NAMES, 0o600)
    assert len({(source / name).read_bytes() for name in NAMES}) == 3


def test_nothing_is_made_where_one_is_there_already(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "gateway-token.key").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"gateway-token\.key: there already; keys are never overwritten"):
        make(folder, NEEDED)
    assert [path.name for path in folder.iterdir()] == ["gateway-token.key"]
    assert (folder / "gateway-token.key").read_bytes() == b"mine"


def test_links_that_all_may_read_become_files_of_the_owner_alone(source: Path, state: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in NAMES:
        (source / name).chmod(0o644)
        (mounted / name).symlink_to(source / name)
    assert install(mounted, state, KEYS) == [(name, True) for name in NAMES]
    for name in NAMES:
        copy = state / name
        assert (copy.is_symlink(), mode(copy), copy.read_bytes()) == (False, 0o600, (source / name).read_bytes())
    assert not [path for path in state.iterdir() if path.name.startswith(".")]


def test_what_the_service_loads_then_are_these_keys(source: Path, state: Path) -> None:
    install(source, state, KEYS)
    assert load_or_create_key(state / "fingerprint.key") == (source / "fingerprint.key").read_bytes()
    signer = load_or_create_signer(state / "checkpoint.key", "another-name")
    assert signer.public.key == load_or_create_signer(source / "checkpoint.key", "copilot-extproc").public.key
    assert digest_path(state / "gateway-token.key").exists()


def test_equal_ones_stay_and_are_closed_to_others(source: Path, state: Path) -> None:
    install(source, state, KEYS)
    before = (state / "checkpoint.key").stat().st_ino
    (state / "checkpoint.key").chmod(0o640)
    assert install(source, state, KEYS) == [(name, False) for name in NAMES]
    assert (before, 0o600) == ((state / "checkpoint.key").stat().st_ino, mode(state / "checkpoint.key"))


@pytest.mark.parametrize("name", NAMES)
def test_a_different_one_is_refused_before_any_is_copied(source: Path, state: Path, tmp_path: Path, name: str) -> None:
    make(tmp_path / "others", NEEDED)
    state.mkdir()
    (state / name).write_bytes((tmp_path / "others" / name).read_bytes())
    with pytest.raises(
        ConfigError, match=rf"state/{name}: there is another key than .*made/{name}, .* not overwritten"
    ):
        install(source, state, KEYS)
    assert [path.name for path in state.iterdir()] == [name]
    assert (state / name).read_bytes() == (tmp_path / "others" / name).read_bytes()


def test_a_key_that_is_gone_is_not_replaced_by_another(source: Path, state: Path, tmp_path: Path) -> None:
    make(tmp_path / "others", NEEDED)
    install(tmp_path / "others", state, KEYS)
    (state / "fingerprint.key").unlink()
    with pytest.raises(ConfigError, match=r"made/fingerprint\.key: not the key that was here before"):
        install(tmp_path / "made", state, [key for key in KEYS if key.file == "fingerprint.key"])
    assert not (state / "fingerprint.key").exists()
    install(tmp_path / "others", state, KEYS)
    assert (state / "fingerprint.key").exists()


def test_a_signing_key_is_refused_where_another_ones_public_key_is_left(source: Path, state: Path) -> None:
    load_or_create_signer(state / "checkpoint.key", "acme")
    (state / "checkpoint.key").unlink()
    with pytest.raises(ConfigError, match=r"made/checkpoint\.key: not the key of .*checkpoint\.key\.pub"):
        install(source, state, KEYS)
    public_path(state / "checkpoint.key").unlink()
    install(source, state, KEYS)


def test_all_missing_ones_are_named(source: Path, state: Path) -> None:
    for name in NAMES[:2]:
        (source / name).unlink()
    with pytest.raises(ConfigError, match=r"missing: .*made/checkpoint\.key, .*made/fingerprint\.key; make them once"):
        install(source, state, KEYS)
    assert not state.exists()


def test_the_key_of_encryption_is_taken_where_it_is_mounted(tmp_path: Path, state: Path) -> None:
    make(tmp_path / "all", KEYS)
    assert install(tmp_path / "all", state, KEYS)[-1] == ("wrapping.key", True)


@pytest.mark.parametrize(("name", "content"), [(NAMES[0], b"no pem"), (NAMES[1], b"short"), (NAMES[2], bytes(33))])
def test_what_is_no_key_is_refused(source: Path, state: Path, name: str, content: bytes) -> None:
    (source / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"made/{name}: no usable key: expected"):
        install(source, state, KEYS)
    assert not list(state.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_of_a_key_that_is_still_base64_it_is_said_how_to_mount_it(source: Path, state: Path, name: str) -> None:
    (source / name).write_bytes(base64.b64encode((source / name).read_bytes()))
    with pytest.raises(ConfigError, match="objectEncoding: base64"):
        install(source, state, KEYS)


def test_a_key_that_cannot_be_read_is_told_by_its_name(source: Path, state: Path) -> None:
    (source / "fingerprint.key").unlink()
    (source / "fingerprint.key").mkdir()
    with pytest.raises(ConfigError, match=r"made/fingerprint\.key: the key cannot be read: Is a directory"):
        install(source, state, KEYS)
    assert not state.exists()
