"""The cells of the matrix: what a client must be able to do through the gateway."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clients.process import Ran
from tests.clients.table import SECRET, Table

BEFORE = "old\n"
AFTER = "new\n"
REASON = "not on Fridays"


def answers(table: Table) -> None:
    ran = table.run("hello gateway")
    assert ran.code == 0, ran
    # What was asked (opencode puts it in quotes) comes back.
    assert re.search(r'You asked: "?hello gateway', " ".join(ran.output.split())), ran


def creates_a_file(table: Table) -> None:
    path = table.access.file("hello.py")
    ran = table.run(f'create {path} containing "new"')
    assert _text(path, ran) == AFTER, ran


def edits_a_file(table: Table) -> None:
    path = table.access.file("notes.txt", BEFORE)
    ran = table.run(_edit(path))
    assert _text(path, ran) == AFTER, ran


def writes_no_secret(table: Table) -> None:
    path = table.access.file("settings.txt")
    ran = table.run(f"leak create {path}")
    text = _text(path, ran)
    assert "[MASKED:" in text, f"{text}\n{ran}"
    assert not SECRET.search(text), text
    assert not SECRET.search(ran.output), ran


def waits_and_is_approved(table: Table) -> None:
    path = table.access.file("infra/prod.tf", BEFORE)
    client = table.start(_edit(path))
    approval = table.held()
    assert path.read_text() == BEFORE
    table.decide("approve", approval, "reviewed")
    ran = client.wait(120)
    assert _text(path, ran) == AFTER, ran


def waits_and_is_denied(table: Table) -> None:
    path = table.access.file("infra/prod.tf", BEFORE)
    client = table.start(_edit(path))
    table.decide("deny", table.held(), REASON)
    ran = client.wait(120)
    assert _text(path, ran) == BEFORE
    assert REASON in " ".join(ran.output.split()), ran


def is_refused(table: Table) -> None:
    ran = table.run("hello gateway")
    assert "No rule of the gateway's policy allows" in " ".join(ran.output.split()), ran
    assert "You asked" not in ran.output, ran


def _edit(path: Path) -> str:
    return f'edit {path} replacing "old" with "new"'


def _text(path: Path, ran: Ran) -> str:
    assert path.exists(), f"there is no {path}\n{ran}"
    return path.read_text()


@dataclass(frozen=True)
class Cell:
    """`name` heads the column; `user` is who asks."""

    name: str
    check: Callable[[Table], None]
    user: str = "alice"


CELLS = (
    Cell("answer", answers),
    Cell("create", creates_a_file),
    Cell("edit", edits_a_file),
    Cell("masked", writes_no_secret),
    Cell("approved", waits_and_is_approved),
    Cell("denied", waits_and_is_denied),
    # In no group that the policy names.
    Cell("refused", is_refused, user="mallory"),
)
