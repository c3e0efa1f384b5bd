"""Who is calling, after verification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified person or workload.

    `id` is stable and unique over all issuers (issuer and subject; for Entra tenant and object id), `name` is for
    people to read, `claims` holds the few string claims policy may match and the record keeps (never the token).
    """

    id: str
    name: str
    kind: Literal["person", "workload"]
    issuer: str
    subject: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, str] = field(default_factory=dict)
