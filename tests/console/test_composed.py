from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from extproc.console.composed import _public_keys, make_console, once, roles_of
from extproc.errors import ConfigError, StoreUnavailable
from extproc.keys.checkpoint_key import load_or_create_signer
from extproc.store.approvals_port import Answers
from tests.test_config import PLAIN, load

POLICY = """\
version: 1
credential: github
groups: { audit: [id-1, id-2], ops: [id-3] }
rules:
  - { id: all, effect: allow }
"""
ROLES = "console: { roles: { developer: [devs], auditor: [audit], administrator: [ops] } }\n"


def no_approvals() -> Answers:
    raise StoreUnavailable("none here")


def test_roles_may_use_the_names_that_the_policy_gives_to_groups(tmp_path: Path) -> None:
    roles = roles_of(load(tmp_path, PLAIN + ROLES, POLICY))
    found = (roles.developers, roles.auditors, roles.administrators)
    assert found == (frozenset({"devs"}), frozenset({"id-1", "id-2"}), frozenset({"id-3"}))
    assert roles.approvers == frozenset()


def test_without_settings_whoever_is_verified_is_a_developer_and_nobody_is_more(tmp_path: Path) -> None:
    roles = roles_of(load(tmp_path))
    assert (roles.developers, roles.auditors, roles.administrators) == (None, frozenset(), frozenset())


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        ("", ["http://127.0.0.1:9464"]),
        ("operations: '[::]:9000'\n", ["http://[::1]:9000"]),
        ("operations: 127.0.0.1:9000\n", ["http://127.0.0.1:9000"]),
        ("console: { services: ['https://a.example/x/', 'http://127.0.0.1:1'] }\n", None),
    ],
)
async def test_the_services_asked_are_those_of_the_settings(
    tmp_path: Path, settings: str, addresses: list[str] | None
) -> None:
    async with aiohttp.ClientSession() as session:
        console = make_console(load(tmp_path, PLAIN + settings), no_approvals, session, lambda: 0.0)
    assert console.services._addresses == (addresses or ["https://a.example/x", "http://127.0.0.1:1"])


def test_what_fails_is_tried_again_and_what_was_made_is_kept() -> None:
    tries: list[int] = []

    def make() -> int:
        tries.append(len(tries))
        if len(tries) == 1:
            raise StoreUnavailable("not yet")
        return len(tries)

    get = once(make)
    with pytest.raises(StoreUnavailable):
        get()
    assert [get(), get()] == [2, 2]


def test_checkpoints_are_checked_with_the_own_key_and_those_that_are_trusted_beside_it(tmp_path: Path) -> None:
    places = load(tmp_path).places
    own = load_or_create_signer(places.checkpoint_key, "own").public
    other = load_or_create_signer(tmp_path / "other.key", "other").public
    trusted = places.state / "trusted-keys"
    trusted.mkdir()
    (trusted / "other.pub").write_text(f"{other.vkey}\n")
    assert _public_keys(places) == [own, other]
    (trusted / "broken.pub").write_text("no key")
    with pytest.raises(ConfigError, match=r"broken\.pub"):
        _public_keys(places)
