"""The part of the tour in which an edit waits for a person: once approved, once denied."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from extproc.dev.demo_command import command
from extproc.errors import ExtprocError

QUESTION = "edit infra/prod.tf please"
_ASKED_SECONDS = 15


def show(console: Console, state: Path, ask: Callable[[str], str]) -> None:
    """Ask for a privileged edit twice; `ask` returns what the client was given in the end, in words."""
    for verdict, reason in (("approve", "the plan is reviewed"), ("deny", "not on Fridays")):
        given: list[str] = []
        asking = threading.Thread(target=lambda given=given: given.append(ask(QUESTION)), daemon=True)
        asking.start()
        waiting = _pending(state)
        console.print(f"    {waiting['id']} waits: {_touched(waiting)}", markup=False)
        console.print(f"    .venv/bin/extproc approvals {verdict} ID --as bob --reason '{reason}'", style="dim")
        command(state, "approvals", verdict, waiting["id"], "--as", "bob", "--reason", reason)
        asking.join(_ASKED_SECONDS)
        if not given:
            raise ExtprocError("the answer did not come although the verdict was given")
        colour = "green" if verdict == "approve" else "red"
        console.print(f"    alice received: {given[0]}", style=colour, markup=False)


def _pending(state: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _ASKED_SECONDS
    while time.monotonic() < deadline:
        rows = command(state, "approvals", "list", "--state", "pending", "--json").splitlines()
        if rows:
            row: dict[str, Any] = json.loads(rows[0])
            return row
        time.sleep(0.2)
    raise ExtprocError("nothing waits for approval: does the policy have its protections?")


def _touched(row: dict[str, Any]) -> str:
    return ", ".join(f"{touch['act']} {touch['path'] or ''}".strip() for touch in row["touches"])
