"""A target that is a file of NDJSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from extproc.feed.event import Event
from extproc.feed.port import TargetUnavailable
from extproc.witness.append import append_lines

# Facts name people; whoever ships the file is in its group.
_MODE: Final = 0o640


class FileTarget:
    """Append one line per event; the file may be renamed away at any time."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    async def send(self, events: Sequence[Event]) -> None:
        """Append all, durable when this returns; see the port."""
        lines = b"".join(event.line + b"\n" for event in events)
        try:
            await asyncio.to_thread(append_lines, self._path, lines, _MODE)
        except OSError as error:
            raise TargetUnavailable(f"{self._path}: cannot be appended to: {error.strerror or error}") from None
