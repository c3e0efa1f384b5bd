from __future__ import annotations

from extproc.dev.users import DEMO_USERS


def test_the_demo_users_are_those_the_documentation_names() -> None:
    assert dict(DEMO_USERS) == {
        "alice": ("developers",),
        "bob": ("developers", "approvers"),
        "carol": ("auditors",),
        "dave": ("admins",),
        "mallory": (),
    }
