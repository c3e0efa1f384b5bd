from __future__ import annotations

from pathlib import Path

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Draft, Kind, read_head
from extproc.spool import oneshot
from extproc.spool.folders import Lock
from extproc.spool.recovery import recover
from tests.disks import fill, small_disk
from tests.recording_of import NOW
from tests.spooling import check_chain, entries

DRAFTS = [Draft(Kind.ACCESS, f"a{number}", "s1", number, {"who": "carol"}) for number in range(3)]


def test_the_entries_are_a_whole_log_that_is_ended(tmp_path: Path) -> None:
    oneshot.record(tmp_path / "spool", "pod.command.1", DRAFTS, NOW)
    folder = tmp_path / "spool" / "pod.command.1"
    heads = [read_head(one.head) for one in entries(folder)]
    assert [head.id for head in heads] == ["a0", "a1", "a2", "pod.command.1.closed"]
    assert [head.kind for head in heads] == [*3 * [Kind.ACCESS], Kind.CLOSED]
    assert heads[0].facts == {"who": "carol"}
    check_chain(folder)
    assert recover(folder, now=NOW) == 0
    Lock(folder).release()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (disk / "spool").mkdir()
        fill(disk)
        with pytest.raises(StoreUnavailable, match=f"cannot record this in the spool {disk}/spool: No space left"):
            oneshot.record(disk / "spool", "pod.command.1", DRAFTS, NOW)
        assert list((disk / "spool").iterdir()) == []


def test_the_name_says_that_it_is_a_command() -> None:
    assert oneshot.log_of_command("pod-1", "01J") == "pod-1.command.01J"
