from __future__ import annotations

import pytest

from extproc.console.roles import EVERYBODY, INVOLVED, OPERATORS, READERS, Role, Roles, may
from tests.console.desk import principal

ROLES = Roles(frozenset({"developers"}), frozenset({"approvers"}), frozenset({"auditors"}), frozenset({"admins"}))


@pytest.mark.parametrize(
    ("user", "roles"),
    [
        ("alice", {Role.DEVELOPER}),
        ("bob", {Role.DEVELOPER, Role.APPROVER}),
        ("carol", {Role.AUDITOR}),
        ("dave", {Role.ADMINISTRATOR}),
        ("mallory", set()),
    ],
)
def test_roles_follow_from_groups(user: str, roles: set[Role]) -> None:
    assert ROLES.viewer(principal(user)).roles == roles


def test_without_groups_of_developers_whoever_is_verified_is_one() -> None:
    anybody = Roles(None, frozenset(), frozenset(), frozenset())
    assert anybody.viewer(principal("mallory")).roles == {Role.DEVELOPER}
    nobody = Roles(frozenset(), frozenset(), frozenset(), frozenset())
    assert nobody.viewer(principal("alice")).roles == set()


def test_all_but_auditors_are_confined_to_themselves() -> None:
    viewers = [ROLES.viewer(principal(user)) for user in ("alice", "bob", "carol", "dave", "mallory")]
    assert [one.only for one in viewers] == ["issuer#alice", "issuer#bob", None, "issuer#dave", "issuer#mallory"]
    assert [one.sees_everyone for one in viewers] == [False, False, True, False, False]


def test_who_has_one_of_the_roles_may() -> None:
    allowed = {
        user: [may(ROLES.viewer(principal(user)), roles) for roles in (EVERYBODY, READERS, INVOLVED, OPERATORS)]
        for user in ("bob", "carol", "dave", "mallory")
    }
    assert allowed == {
        "bob": [True, True, True, False],
        "carol": [True, True, True, True],
        "dave": [True, False, False, True],
        "mallory": [False, False, False, False],
    }
