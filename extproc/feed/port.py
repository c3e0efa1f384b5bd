"""What is asked of a target of the feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from extproc.errors import ExtprocError
from extproc.feed.event import Event


class TargetUnavailable(ExtprocError):
    """Say why a target did not take events; the text holds no token and no address that may hold one."""


class Target(Protocol):
    """Take events, in the order they are given."""

    @property
    def name(self) -> str:
        """Return what logs and metrics call it: its place in the settings, since its address may be a secret."""
        ...

    async def send(self, events: Sequence[Event]) -> None:
        """Try once to hand over all of these; when this returns it has them. Raises `TargetUnavailable`.

        What failed may have arrived in part; it is sent again.
        """
        ...
