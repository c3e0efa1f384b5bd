from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import keyring
import pytest
from keyring.backends import null
from keyring.errors import KeyringLocked

from extproc.errors import ConfigError, ExtprocError
from extproc.secret import Secret
from extproc.signin import kept
from extproc.signin.kept import Keeper, SignIn, keeper_of, load, system_keyring
from extproc.signin.profile import Profile
from tests.signin.serving import NO_KEYRING, MemoryKeyring

PROFILE = Profile(gateway="https://g.example", issuer="https://i.example", client_id="cli", scopes=("a",), ca_pem="PEM")
ALICE = SignIn(PROFILE, "alice", Secret("t.o.k"), Secret("refresh"), 100.0, 3700.5)


class LockedKeyring(MemoryKeyring):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("hunter2")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(password)


@pytest.fixture
def ring() -> MemoryKeyring:
    return MemoryKeyring()


def test_nobody_is_signed_in_at_first(keeper: Keeper, ring: MemoryKeyring) -> None:
    assert keeper.load() is None
    assert Keeper(keeper.file, ring).load() is None


@pytest.mark.parametrize("one", [ALICE, replace(ALICE, refresh_token=None)])
def test_without_a_keyring_the_sign_in_is_in_a_file_of_its_owner_alone(keeper: Keeper, one: SignIn) -> None:
    previous = os.umask(0)
    try:
        keeper.save(one)
    finally:
        os.umask(previous)
    assert keeper.load() == one
    assert stat.S_IMODE(keeper.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(keeper.file.parent.stat().st_mode) == 0o700
    assert list(keeper.file.parent.iterdir()) == [keeper.file]


def test_with_a_keyring_nothing_is_on_the_disk(keeper: Keeper, ring: MemoryKeyring) -> None:
    keeper = Keeper(keeper.file, ring)
    keeper.save(ALICE)
    assert keeper.load() == ALICE
    assert list(ring.entries) == [("copilot-extproc", "sign-in")]
    assert not keeper.file.exists()


def test_a_sign_in_stays_where_it_was_put(keeper: Keeper, ring: MemoryKeyring) -> None:
    keeper = Keeper(keeper.file, ring)
    later = replace(ALICE, token=Secret("l.a.ter"))
    keeper.save(ALICE, in_file=True)
    keeper.replace(later)
    assert (keeper.load(), ring.entries) == (later, {})
    # The next sign-in chooses anew, and leaves nothing behind.
    keeper.save(ALICE)
    assert not keeper.file.exists()
    keeper.replace(later)
    assert (keeper.load(), keeper.file.exists()) == (later, False)


def test_what_is_forgotten_is_gone_from_both_places(keeper: Keeper, ring: MemoryKeyring) -> None:
    keeper = Keeper(keeper.file, ring)
    keeper.save(ALICE)
    keeper.save(ALICE, in_file=True)
    keeper.forget()
    assert (keeper.load(), ring.entries, keeper.file.exists()) == (None, {}, False)
    keeper.forget()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_reach_is_not_read(keeper: Keeper, mode: int) -> None:
    keeper.save(ALICE)
    keeper.file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"sign-in.json: others can read it \(mode {mode:04o}\)"):
        keeper.load()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b'{"name": "alice"}', json.dumps({"profile": {}, "token": "hunter2"}).encode()],
)
def test_what_is_no_sign_in_is_named_without_its_content(keeper: Keeper, ring: MemoryKeyring, content: bytes) -> None:
    keeper.file.parent.mkdir()
    keeper.file.touch(mode=0o600)
    keeper.file.write_bytes(content)
    with pytest.raises(ExtprocError, match=r"sign-in.json: this is not a sign-in: run `extproc login`") as refused:
        keeper.load()
    assert "hunter2" not in str(refused.value)
    # And it does not stand in the way of the next one.
    keeper.save(ALICE)
    assert keeper.load() == ALICE


def test_an_entry_of_the_keyring_that_is_no_sign_in_is_named(keeper: Keeper, ring: MemoryKeyring) -> None:
    ring.set_password(kept.SERVICE, kept.ACCOUNT, "hunter2")
    with pytest.raises(ExtprocError, match=r"^the keyring's entry: this is not a sign-in: run `extproc login`$"):
        Keeper(keeper.file, ring).load()


def test_a_folder_or_a_pipe_in_its_place_is_refused_at_once(keeper: Keeper) -> None:
    keeper.file.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        keeper.load()
    keeper.file.rmdir()
    os.mkfifo(keeper.file, 0o600)
    with pytest.raises(ConfigError, match="expected a file of this user"):
        keeper.load()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExtprocError, match=r"the sign-in cannot be kept \("):
        Keeper(tmp_path / "file" / "sign-in.json", None).save(ALICE)


def test_a_keyring_that_is_locked_is_told_without_what_it_says(keeper: Keeper) -> None:
    locked = Keeper(keeper.file, LockedKeyring())
    for ask in (locked.load, locked.forget, lambda: locked.save(ALICE)):
        with pytest.raises(ExtprocError, match=r"KeyringLocked\): unlock it, or use `extproc login --file`") as refused:
            ask()
        assert "hunter2" not in str(refused.value)
        assert "t.o.k" not in str(refused.value)
    locked.save(ALICE, in_file=True)
    assert locked.load() == ALICE


def test_nothing_shows_the_tokens() -> None:
    assert "t.o.k" not in repr(ALICE)
    assert "refresh" not in repr(ALICE).replace("refresh_token=", "")


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_keyring() -> None:
    keyring.set_keyring(NO_KEYRING)


@pytest.mark.usefixtures("no_keyring")
@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/home/a"}, "/x"),
        ({"HOME": "/home/a"}, "/home/a/.config"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/a"}, "/home/a/.config"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/home/a"}, "/home/a/.config"),
    ],
)
def test_the_file_is_where_a_users_settings_are(environ: dict[str, str], folder: str) -> None:
    assert keeper_of(environ).file == Path(folder, "copilot-extproc", "sign-in.json")
    assert load({"XDG_CONFIG_HOME": "/nowhere"}) is None


def test_a_user_without_a_home_is_told() -> None:
    with pytest.raises(ConfigError, match="neither HOME nor XDG_CONFIG_HOME"):
        keeper_of({})


def test_only_a_keyring_that_keeps_counts() -> None:
    good = MemoryKeyring()
    try:
        found = []
        for one in (NO_KEYRING, null.Keyring(), good):  # type: ignore[no-untyped-call]
            keyring.set_keyring(one)
            found.append(system_keyring())
        assert found == [None, None, good]
    finally:
        keyring.set_keyring(NO_KEYRING)


# --- one process at a time -------------------------------------------------------------------------------------------


async def test_the_lock_lets_one_in_at_a_time(keeper: Keeper) -> None:
    inside: list[str] = []

    async def refresh(name: str) -> None:
        async with keeper.locked():
            inside.append(name)
            await asyncio.sleep(0)
            inside.append(name)

    await asyncio.gather(*(refresh(name) for name in "abc"))
    assert sorted(inside) == list("aabbcc")
    assert all(inside[at] == inside[at + 1] for at in (0, 2, 4))


async def test_who_waits_too_long_for_the_lock_is_told(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LOCK_SECONDS", 0.01)
    async with keeper.locked():
        with pytest.raises(ExtprocError, match=r"another process holds .*sign-in.lock"):
            async with keeper.locked():
                pass
    async with keeper.locked():
        pass


async def test_a_lock_that_was_removed_meanwhile_keeps_two_apart_all_the_same(keeper: Keeper) -> None:
    inside: list[str] = []
    waiting = asyncio.Event()

    async def refresh(name: str) -> None:
        waiting.set()
        async with keeper.locked():
            inside.append(name)
            await asyncio.sleep(0.2)
            inside.append(name)

    async with keeper.locked():
        first = asyncio.create_task(refresh("a"))
        await waiting.wait()
        keeper.forget_lock()
        # It holds another file, and whoever waited for the one before waits for it too.
        second = asyncio.create_task(refresh("b"))
        await asyncio.sleep(0)
    await asyncio.gather(first, second)
    assert inside in (list("aabb"), list("bbaa"))
    assert keeper.file.with_suffix(".lock").exists()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExtprocError, match=r"sign-in.lock: it cannot be made \("):
        async with Keeper(tmp_path / "file" / "sign-in.json", None).locked():
            pass
