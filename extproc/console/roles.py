"""Who may see what in the console: roles from verified groups. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from extproc.identity.principal import Principal


class Role(StrEnum):
    """What somebody is to the console; one person may be several."""

    DEVELOPER = "developer"  # sees their own sessions
    APPROVER = "approver"  # sees what waits for them, and answers it
    AUDITOR = "auditor"  # reads everything
    ADMINISTRATOR = "administrator"  # sees the configuration, and no session but their own


# Who may open what, the same for pages and REST API; how much of it they see is said by `Viewer.only`.
EVERYBODY: Final = frozenset(Role)
READERS: Final = frozenset({Role.DEVELOPER, Role.AUDITOR})
INVOLVED: Final = frozenset({Role.DEVELOPER, Role.APPROVER, Role.AUDITOR})
OPERATORS: Final = frozenset({Role.AUDITOR, Role.ADMINISTRATOR})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody verified, with the roles they have; none is possible, and sees nothing."""

    principal: Principal
    roles: frozenset[Role]

    @property
    def name(self) -> str:
        """Return the name, for people to read."""
        return self.principal.name

    @property
    def sees_everyone(self) -> bool:
        """Say whether exchanges of others may be shown."""
        return Role.AUDITOR in self.roles

    @property
    def only(self) -> str | None:
        """Return the id of the principal to whose exchanges this viewer is confined, None for auditors."""
        return None if self.sees_everyone else self.principal.id


@dataclass(frozen=True, slots=True)
class Roles:
    """Which groups have which role; `developers` None means whoever is verified."""

    developers: frozenset[str] | None
    approvers: frozenset[str]
    auditors: frozenset[str]
    administrators: frozenset[str]

    def viewer(self, principal: Principal) -> Viewer:
        """Return the viewer that a principal is."""
        groups = principal.groups
        held = {
            Role.DEVELOPER: self.developers is None or bool(groups & self.developers),
            Role.APPROVER: bool(groups & self.approvers),
            Role.AUDITOR: bool(groups & self.auditors),
            Role.ADMINISTRATOR: bool(groups & self.administrators),
        }
        return Viewer(principal, frozenset(role for role, has in held.items() if has))


def may(viewer: Viewer, allowed: Collection[Role]) -> bool:
    """Say whether a viewer has one of the roles."""
    return not viewer.roles.isdisjoint(allowed)
