from __future__ import annotations

import json
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from extproc.feed.event import event_of
from extproc.feed.feed import Feed
from extproc.feed.file import FileTarget
from extproc.feed.port import TargetUnavailable
from tests.feed.ledger import MemoryLedger, entries_of

EVENTS = [event_of(entry) for entry in entries_of("pod-1.0.7", 2, user="Łukasz")]


def indexes(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_text().splitlines()]


async def test_each_event_is_one_line_of_json_appended_to_the_file(tmp_path: Path) -> None:
    target = FileTarget("feeds[0]", tmp_path / "f")
    await target.send(EVENTS)
    await target.send(EVENTS[:1])
    assert indexes(tmp_path / "f") == [0, 1, 0]
    assert not stat.S_IMODE((tmp_path / "f").stat().st_mode) & 0o007


async def test_a_file_that_was_renamed_away_is_made_anew(tmp_path: Path) -> None:
    target = FileTarget("feeds[0]", tmp_path / "f")
    await target.send(EVENTS[:1])
    (tmp_path / "f").rename(tmp_path / "f.1")
    await target.send(EVENTS[1:])
    assert (indexes(tmp_path / "f.1"), indexes(tmp_path / "f")) == ([0], [1])


async def test_a_file_that_cannot_be_written_is_unavailable_and_named(tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable, match="none/f: cannot be appended to: No such file"):
        await FileTarget("feeds[0]", tmp_path / "none" / "f").send(EVENTS)


async def test_a_feed_into_a_file_has_every_entry_once_over_restarts(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    for count in (2, 2, 5):
        ledger.put(*entries_of("a", count))
        target = FileTarget("feeds[0]", tmp_path / "f")
        feed = Feed(lambda: nullcontext(ledger), target, tmp_path / "cursor", now=lambda: 0.0)
        await feed.step()
        await feed.aclose()
    assert indexes(tmp_path / "f") == [0, 1, 2, 3, 4]
