"""Reading in the console is recorded: who looked at what, before it is shown."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from extproc.config_recording import Places
from extproc.console.roles import Viewer
from extproc.recording.entry import Draft, Kind
from extproc.recording.facts import bounded, microseconds
from extproc.spool import oneshot
from extproc.spool.sealing import session_of

AGAIN_SECONDS: Final = 60.0
"""How long the same look of the same person counts as one: pages fetch again what they show, some every two seconds."""

_REMEMBERED: Final = 1000


class Accesses:
    """Record accesses in the spool; each is an entry of a log of its own, which the service ships."""

    def __init__(self, places: Places, now: Callable[[], float], new_id: Callable[[float], str]) -> None:
        self._places = places
        self._now = now
        self._new_id = new_id
        self._noted: OrderedDict[tuple[object, ...], float] = OrderedDict()

    async def note_once(self, viewer: Viewer, action: str, **what: str | int | None) -> None:
        """Record it as `note` does, unless the very same was recorded less than `AGAIN_SECONDS` ago."""
        key = (viewer.principal.id, action, *sorted(what.items()))
        if self._now() - self._noted.get(key, float("-inf")) < AGAIN_SECONDS:
            return
        await self.note(viewer, action, **what)
        self._noted[key] = self._now()
        self._noted.move_to_end(key)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)

    async def note(self, viewer: Viewer, action: str, **what: str | int | None) -> None:
        """Record that a viewer does `action` with what is named.

        It is durable when this returns. Raises `StoreUnavailable` where it is not: then nothing may be shown.
        """
        now = self._now()
        access_id = self._new_id(now)
        log = oneshot.log_of_command(self._places.recording.replica, access_id)
        principal = viewer.principal
        facts = bounded({"by": principal.id, "name": principal.name, "through": "console", "action": action, **what})
        draft = Draft(Kind.ACCESS, f"access.{access_id}", session_of(log), microseconds(now), facts)
        await asyncio.to_thread(oneshot.record, self._places.spool, log, [draft], now)
