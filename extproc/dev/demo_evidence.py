"""The part of the tour in which the record is verified."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console

from extproc.dev.demo_command import command

_SIGNED_SECONDS = 15
"""With the defaults a checkpoint is signed ten seconds after an entry."""


def show(console: Console, state: Path, session: str) -> None:
    """Wait until the record is signed, show what verifying says, and where to look further.

    Raises ExtprocError where something was changed.
    """
    deadline = time.monotonic() + _SIGNED_SECONDS
    while _pending(state) and time.monotonic() < deadline:
        time.sleep(0.5)
    for line in command(state, "verify").splitlines():
        console.print(
            f"    {line}", style="green" if "nothing was changed" in line else None, markup=False, soft_wrap=True
        )
    console.print(
        f"Look further:  .venv/bin/extproc verify\n"
        f"               .venv/bin/extproc trace FILE    (which suggestions its lines come from)\n"
        f"               .venv/bin/extproc export --session {session} --format markdown\n"
        f"               .venv/bin/extproc sessions list\n"
        f"               .venv/bin/extproc sessions show {session} --json\n"
        f"               .venv/bin/extproc replay {session} --speed 2\n"
        f"               .venv/bin/extproc policy explain --as mallory --model gpt-5",
        markup=False,
        soft_wrap=True,
    )


def _pending(state: Path) -> int:
    """Return how many entries no checkpoint is over yet."""
    total = json.loads(command(state, "verify", "--json").splitlines()[-1])
    return int(total["pending"])
