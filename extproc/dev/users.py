"""The people of the development environment and the groups the dev issuer puts into their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DEMO_USERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alice": ("developers",),
        "bob": ("developers", "approvers"),
        "carol": ("auditors",),
        "dave": ("admins",),
        "mallory": (),
    }
)
