from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import ConfigError
from extproc.recording.entry import Kind, WrappedKey, read_head
from extproc.recording.envelope import CannotOpen, DataKey
from extproc.spool import folders, records
from extproc.spool.frames import frames
from extproc.spool.reader import Damaged
from extproc.spool.recovery import recover
from extproc.spool.sealing import closed_id
from extproc.spool.segments import Segments
from tests.recording_of import NOW, exchange
from tests.spool.crashing import envelope
from tests.spooling import LOG, abandon, check_chain, documents, entries, event, spool_in
from tests.spooling import records as read_records

REPOSITORY = Path(__file__).parents[2]
KEY = bytes(range(32))


class Promised:
    """What a process said of its exchanges before it was killed."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: set[str] = set()
        self.pieces: dict[str, int] = defaultdict(int)

    def hear(self, line: str) -> None:
        what, one, *rest = line.split()
        match what:
            case "opened":
                self.opened.append(one)
            case "piece":
                assert int(rest[0]) == self.pieces[one]
                self.pieces[one] += 1
            case "closed":
                self.closed.add(one)


def run_and_kill(root: Path, log: str, *, lines: int, key: bytes | None = None) -> Promised:
    """Run a process until it has said so many lines, and kill it while it goes on."""
    command = [sys.executable, "-m", "tests.spool.crashing", str(root), log, log, *([key.hex()] if key else [])]
    promised = Promised()
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        for _ in range(lines):
            promised.hear(process.stdout.readline())
        process.kill()
        for line in process.stdout:
            promised.hear(line)
    return promised


def opened_keys(key: bytes) -> Callable[[str, records.WrappedKey], DataKey]:
    opener = envelope(key)
    return lambda session, wrapped: opener.open(WrappedKey(wrapped[0], session, wrapped[1]))


def documents_of(folder: Path, key: bytes | None) -> list[dict[str, Any]]:
    """Return all documents; what is encrypted is opened with the keys that stand in the spool."""
    if key is None:
        return documents(folder)
    keys = {}
    for one in read_records(folder):
        if isinstance(one, records.Opened | records.Entry) and one.key is not None:
            keys[one.key[0]] = opened_keys(key)(one.session, one.key)

    def reveal(stored: bytes) -> bytes:
        for candidate in keys.values():
            try:
                return candidate.reveal(stored)
            except CannotOpen:  # it is another session's
                continue
        raise AssertionError("no key opens it")

    return documents(folder, reveal)


@pytest.mark.parametrize("key", [None, KEY], ids=["clear", "encrypted"])
def test_whatever_a_killed_process_promised_is_there_once_with_all_that_clients_got(
    tmp_path: Path, key: bytes | None
) -> None:
    chosen = random.Random(f"kill {key!r}")  # noqa: S311 - the same each time
    interrupted = 0
    for life in range(8 if key is None else 3):
        log = f"test.0.{life}"
        promised = run_and_kill(tmp_path, log, lines=chosen.randrange(1, 700), key=key)
        left = recover(tmp_path / log, now=NOW + 60, open_key=None if key is None else opened_keys(key))
        found = {one["id"]: one for one in documents_of(tmp_path / log, key)}
        assert len(entries(tmp_path / log)) == len(found) + 1  # and the one that closes the log
        assert set(promised.opened) <= set(found)
        assert left == sum(one["outcome"] == "interrupted" for one in found.values())
        for one in promised.opened:
            check_document(found[one], closed=one in promised.closed, pieces=promised.pieces[one])
        check_chain(tmp_path / log)
        interrupted += left
    assert interrupted > 0


def check_document(document: dict[str, Any], *, closed: bool, pieces: int) -> None:
    one = document["id"]
    if closed:
        assert document["outcome"] == "completed"
    if document["outcome"] == "completed":
        return
    text = document["response"].get("text") or ""
    sent = text.split()
    assert len(sent) >= pieces
    assert text == "".join(f"{one}.{number} " for number in range(len(sent)))
    assert document["response"]["body_bytes"] == sum(len(event(f"{one}.{n} ")) for n in range(len(sent)))
    assert document["outcome"] == "interrupted"


async def leave_open(root: Path) -> Path:
    """Leave a log with one exchange closed and one open, which got three pieces; return its folder."""
    spool = spool_in(root)
    await spool.append(*exchange("done"))
    opening, _ = exchange("open", endpoint="chat")
    await spool.append(opening, None)
    spool.answering("open", 200, "text/event-stream")
    for number in range(3):
        spool.piece("open", number, event(f"{number} "))
    abandon(spool)
    return spool.folder


async def test_what_was_left_open_is_sealed_as_interrupted_and_the_log_is_ended(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    assert recover(folder, now=NOW + 60) == 1
    done, left = documents(folder)
    assert (done["id"], done["outcome"]) == ("done", "completed")
    assert (left["id"], left["outcome"]) == ("open", "interrupted")
    assert left["error"]["code"] == "gateway.internal"
    assert left["response"]["text"] == "0 1 2 "
    assert left["response"]["status"] == 200
    assert left["closed_at"] == NOW + 60
    assert left["timing"]["pieces"] == [[0.0, "0.text", 2], [1.0, "0.text", 2], [2.0, "0.text", 2]]
    last = read_head(entries(folder)[-1].head)
    assert (last.kind, last.id, last.facts) == (Kind.CLOSED, closed_id(LOG), {"reason": "died"})
    check_chain(folder)


async def test_recovering_a_log_that_is_ended_changes_nothing(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    recover(folder, now=NOW + 60)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert recover(folder, now=NOW + 90) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


async def test_a_log_without_exchanges_is_ended(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 0
    assert [one.id for one in entries(spool.folder)] == [closed_id(LOG)]


async def test_recovery_that_was_cut_off_anywhere_is_repeated_with_the_same_result(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path / "made")
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    recover(folder, now=NOW + 60)
    second = folders.segment_path(folder, 2).read_bytes()
    chosen = random.Random("cut")  # noqa: S311 - the same each time
    for size in sorted({0, 1, 7, 8, *chosen.sample(range(len(second)), 40)}):
        again = tmp_path / str(size) / LOG
        again.mkdir(parents=True)
        for name, data in kept.items():
            (again / name).write_bytes(data)
        folders.segment_path(again, 2).write_bytes(second[:size])
        recover(again, now=NOW + 90)
        check_chain(again)
        assert [one["id"] for one in documents(again)] == ["done", "open"]
        assert documents(again)[1]["response"]["text"] == "0 1 2 "
        assert entries(again)[-1].id == closed_id(LOG)
        recover(again, now=NOW + 95)
        assert len(entries(again)) == 3


async def test_a_tail_torn_at_any_byte_costs_only_what_was_being_written(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path / "made")
    whole = folders.segment_path(folder, 1).read_bytes()
    piece = len(event("2 "))
    for cut in range(1, piece):
        again = tmp_path / str(cut) / LOG
        again.mkdir(parents=True)
        folders.segment_path(again, 1).write_bytes(whole[:-cut] + bytes(cut % 3))
        recover(again, now=NOW + 60)
        assert documents(again)[1]["response"]["text"] == "0 1 "
        check_chain(again)


async def two_segments(root: Path) -> Path:
    """Leave a log whose second segment was begun after two pieces that were not flushed; return its folder."""
    spool = spool_in(root)
    await spool.append(*exchange("done"))
    opening, _ = exchange("open", endpoint="chat")
    await spool.append(opening, None)
    spool.answering("open", 200, "text/event-stream")
    for number in range(2):
        spool.piece("open", number, event(f"{number} "))
    assert spool._segments is not None
    spool._segments.begin(spool._sealer.chain.index, spool._sealer.chain.prev)
    abandon(spool)
    return spool.folder


async def test_pieces_that_a_power_cut_took_from_the_end_of_a_segment_are_no_damage(tmp_path: Path) -> None:
    folder = await two_segments(tmp_path)
    path = folders.segment_path(folder, 1)
    data = path.read_bytes()
    path.write_bytes(data[:-10] + bytes(10))
    assert recover(folder, now=NOW) == 1
    assert documents(folder)[1]["response"]["text"] == "0 "
    check_chain(folder)


@pytest.mark.parametrize("change", ["bit", "cut", "cut between frames"])
async def test_what_was_durable_and_is_not_there_is_damage(tmp_path: Path, change: str) -> None:
    folder = await two_segments(tmp_path)
    path = folders.segment_path(folder, 1)
    data = path.read_bytes()
    ends = [after for _, after in frames(data)]
    opened = ends[2]  # of the frame that opens the exchange, after those of the segment and of the other exchange
    match change:
        case "bit":
            path.write_bytes(data[: opened - 1] + bytes([data[opened - 1] ^ 1]) + data[opened:])
        case "cut":
            path.write_bytes(data[: opened - 1])
        case _:
            path.write_bytes(data[: ends[1]])
    with pytest.raises(Damaged, match=f"{path.name}: damaged at byte {ends[1]}"):
        recover(folder, now=NOW)


async def test_damage_before_what_was_flushed_is_no_torn_tail(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    recover(folder, now=NOW)
    path = folders.segment_path(folder, folders.segments_in(folder)[-1])
    data = path.read_bytes()
    begun = next(after for _, after in frames(data))
    path.write_bytes(data[: begun + 20] + b"?" + data[begun + 21 :])
    # The frame that was damaged is not the last one; nothing is written after it.
    with pytest.raises(Damaged, match=rf"{path.name}: damaged at byte {begun}, and from byte \d+ on it is not"):
        recover(folder, now=NOW)
    assert path.stat().st_size == len(data)


async def test_what_a_torn_tail_costs_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = await leave_open(tmp_path)
    with folders.segment_path(folder, 1).open("ab") as file:
        file.write(b"\0\0\0\7torn")
    assert recover(folder, now=NOW) == 1
    assert [one.fields for one in caplog.records] == [{"log": LOG, "bytes": 8}]  # type: ignore[attr-defined]
    check_chain(folder)


async def test_a_log_without_a_beginning_is_damage(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    folders.segment_path(folder, 1).unlink()
    with pytest.raises(Damaged, match="no segment says where the log begins"):
        recover(folder, now=NOW)
    assert folders.segments_in(folder) == []


async def test_a_segment_that_is_gone_from_the_middle_is_damage(tmp_path: Path) -> None:
    folder = await two_segments(tmp_path)
    recover(folder, now=NOW)
    folders.segment_path(folder, 2).unlink()
    with pytest.raises(Damaged, match=r"00000002.segment: is gone"):
        recover(folder, now=NOW)


async def test_a_segment_that_does_not_go_on_where_the_one_before_ended_is_damage(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    Segments(folder, LOG, reserve_bytes=0).begin(7, "")
    with pytest.raises(Damaged, match="begins at entry 7, not 1"):
        recover(folder, now=NOW)


async def test_an_encrypted_log_is_not_ended_without_its_key(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, new_key=envelope(KEY).new_key)
    opening, _ = exchange("open", endpoint="chat")
    await spool.append(opening, None)
    abandon(spool)
    with pytest.raises(ConfigError, match="wrapping key"):
        recover(spool.folder, now=NOW)
    assert recover(spool.folder, now=NOW, open_key=opened_keys(KEY)) == 1


async def test_recovery_uses_what_was_put_by(tmp_path: Path) -> None:
    folder = await leave_open(tmp_path)
    assert (folder / folders.RESERVE).exists()
    recover(folder, now=NOW)
    assert not (folder / folders.RESERVE).exists()


async def test_what_was_copied_forward_gives_the_same_text_once(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, _ = exchange("long", endpoint="chat", messages=[{"role": "user", "content": "word " * 1000}])
    await spool.append(opening, None)
    spool.answering("long", 200, "text/event-stream")
    spool.piece("long", 0, event("0 "))
    segments = spool._segments
    assert segments is not None
    chain = spool._sealer.chain
    segments.begin(chain.index, chain.prev)
    spool.piece("long", 1, event("1 "))
    await spool.copy(1, {"long"})
    spool.piece("long", 2, event("2 "))
    abandon(spool)
    folders.segment_path(spool.folder, 1).unlink()
    assert recover(spool.folder, now=NOW) == 1
    last = entries(spool.folder)[0]
    # The blobs went to the store with the first segment; the entry still says that they are its own.
    assert len(read_head(last.head).blobs) == 1
    assert b"0 1 2 " in (last.body or b"")
    check_chain(spool.folder)


async def test_an_exchange_that_was_sealed_is_not_copied_and_not_sealed_again(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one", endpoint="chat")
    await spool.append(opening, None)
    await spool.append(None, closing)
    before = len(read_records(spool.folder))
    await spool.copy(1, {"one"})
    assert len(read_records(spool.folder)) == before
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 0


async def test_a_piece_after_the_end_of_its_exchange_opens_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one", endpoint="chat")
    await spool.append(opening, None)
    await spool.append(None, closing)
    spool._note(records.encoded(records.Piece("one", 1.0, 0, b"late")))
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 0
    assert len(entries(spool.folder)) == 2
