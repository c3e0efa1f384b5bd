"""Who asks, how the gateway does, and how it is configured."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from extproc.console.answering import how_many_wait
from extproc.console.api.route import Call, Fault, Nothing
from extproc.console.configuration import Configuration
from extproc.console.moments import age
from extproc.console.roles import OPERATORS, Role, may
from extproc.console.services import Now
from extproc.store.port import Overview

MAX_SPAN_SECONDS: Final = 90 * 86_400
STEPS: Final = 60


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who the token is of, and the roles that their groups give them; who has none sees nothing."""

    id: str
    name: str
    roles: list[Role]


class OverviewQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to look back."""

    span: Annotated[str, Meta(description="An age such as 1h or 7d, at most 90d.")] = "1h"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How things are now, and what was opened from `since` on, in unix seconds; of everyone, or of the viewer alone.

    `waiting` counts at most 500 approvals that wait: all, with figures of everyone, else those for this viewer.
    """

    since: float
    until: float
    everyone: bool
    services: Now
    waiting: int
    overview: Overview


async def me(call: Call[Nothing, Nothing]) -> Me:
    """Return who asks."""
    who = call.viewer.principal
    return Me(id=who.id, name=who.name, roles=sorted(call.viewer.roles))


async def overview(call: Call[OverviewQuery, Nothing]) -> Figures:
    """Return figures: everyone's to auditors and administrators, their own to others."""
    seconds = age(call.query.span)
    if seconds is None or not 60 <= seconds <= MAX_SPAN_SECONDS:
        raise Fault(422, "query", "`span`: expected an age from 1m to 90d, such as 1h.")
    console, viewer, now = call.console, call.viewer, call.console.now()
    everyone = may(viewer, OPERATORS)
    since = now - seconds
    found = await console.reading.overview(viewer, since=since, until=now, steps=STEPS, everyone=everyone)
    return Figures(
        since=since,
        until=now,
        everyone=everyone,
        services=await console.services.now(),
        waiting=await how_many_wait(viewer, console.approvals(), now, everyone=everyone),
        overview=found,
    )


async def configuration(call: Call[Nothing, Nothing]) -> Configuration:
    """Return settings and policy as the console was started with them; what may be secret is not in it."""
    return call.console.configuration
