from __future__ import annotations

import asyncio
import json
import os
import pwd
from pathlib import Path

import pytest

from extproc.recording.entry import Kind, read_head
from extproc.spool.folders import logs_in
from extproc.spool.reader import LogReader
from extproc.spool.records import Entry
from tests.commanding import Extproc, runner
from tests.recording_of import exchange, record

READING = [
    ("show", ("sessions", "show", "s1")),
    ("replay", ("replay", "s1", "--no-wait")),
    ("export", ("export", "--session", "s1")),
]


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / ".extproc"
    asyncio.run(record(folder / "record.db", [exchange("x1", method="POST", path="/chat/completions")]))
    return folder


def access_entries(state: Path) -> list[Entry]:
    records = [record for folder in logs_in(state / "spool") for _, record in LogReader(folder).read()]
    return [one for one in records if isinstance(one, Entry) and read_head(one.head).kind is Kind.ACCESS]


@pytest.mark.parametrize(("action", "command"), READING)
def test_reading_is_recorded_with_who_what_and_when(
    extproc: Extproc, state: Path, action: str, command: tuple[str, ...]
) -> None:
    run = extproc(*command)
    assert (run.code, run.err) == (0, "")
    assert "say hello" in run.out
    [entry] = access_entries(state)
    head = read_head(entry.head)
    assert head.facts["action"] == action
    assert head.facts["by"].startswith(f"os:{pwd.getpwuid(os.getuid()).pw_name}@")
    assert "s1" in json.dumps(head.facts)
    assert head.at > 1_760_000_000_000_000


@pytest.mark.parametrize(("action", "command"), READING)
def test_what_cannot_be_recorded_is_not_shown(
    extproc: Extproc, state: Path, action: str, command: tuple[str, ...]
) -> None:
    (state / "spool").write_text("no folder")
    run = extproc(*command)
    assert run.code == 1, action
    assert run.out == ""
    assert "reading is recorded, and that failed, so nothing is shown" in run.err


def test_a_session_that_is_not_there_is_no_reading(extproc: Extproc, state: Path) -> None:
    assert extproc("sessions", "show", "s2").code == 1
    assert access_entries(state) == []


def test_listing_shows_no_content_and_is_not_recorded(extproc: Extproc, state: Path) -> None:
    assert extproc("sessions", "list").code == 0
    assert access_entries(state) == []
