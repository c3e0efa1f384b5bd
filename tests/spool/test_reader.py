from __future__ import annotations

from pathlib import Path

import pytest

from extproc.recording.entry import GENESIS
from extproc.spool import folders
from extproc.spool.frames import framed
from extproc.spool.reader import CHUNK_BYTES, Damaged, LogReader, records_of
from extproc.spool.records import Begin, Piece, Record, encoded
from extproc.spool.segments import Segments


def piece(number: int, size: int = 10) -> Piece:
    return Piece(f"x{number}", 0.0, number, bytes(size))


def begun(folder: Path) -> Segments:
    segments = Segments(folder, "log", reserve_bytes=0)
    segments.begin(0, GENESIS)
    return segments


def read_all(reader: LogReader) -> list[tuple[int, Record]]:
    found: list[tuple[int, Record]] = []
    while chunk := reader.read():
        found += chunk
    return found


def test_records_come_with_the_numbers_of_their_segments(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([encoded(piece(1))])
    segments.begin(0, GENESIS)
    segments.append([encoded(piece(2))])
    found = read_all(LogReader(tmp_path))
    assert [(number, type(one).__name__) for number, one in found] == [
        (1, "Begin"), (1, "Piece"), (2, "Begin"), (2, "Piece"),
    ]  # fmt: skip
    assert [one for _, one in found[1::2]] == [piece(1), piece(2)]
    assert records_of(tmp_path, 2) == [found[2][1], piece(2)]
    segments.close()


def test_an_empty_folder_has_no_records(tmp_path: Path) -> None:
    assert LogReader(tmp_path).read() == []


def test_what_is_beyond_the_limit_is_not_read_until_it_is_within(tmp_path: Path) -> None:
    segments, reader = begun(tmp_path), LogReader(tmp_path)
    segments.append([encoded(piece(1))])
    first = segments.sync()
    segments.append([encoded(piece(2))])
    segments.begin(0, GENESIS)
    segments.append([encoded(piece(3))])
    last = segments.sync()
    assert [one for _, one in reader.read(first)] == [Begin(1, "log", 0, GENESIS, 0), piece(1)]
    assert reader.read(first) == []
    assert [one for _, one in reader.read(last)] == [piece(2)]
    assert [one for _, one in reader.read(last)][1:] == [piece(3)]
    assert reader.read(last) == []
    assert reader.position == last
    segments.close()


def test_frames_of_any_size_are_read(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    sizes = [10, CHUNK_BYTES - 100, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 20]
    written = [piece(number, size) for number, size in enumerate(sizes)]
    for one in written:
        segments.append([encoded(one)])
    limit = segments.sync()
    assert [one for _, one in read_all(LogReader(tmp_path))][1:] == written
    limited, found = LogReader(tmp_path), list[Record]()
    while chunk := limited.read(limit):
        found += [one for _, one in chunk]
    assert found[1:] == written
    segments.close()


@pytest.mark.parametrize("tail", [b"\0" * 20, b"\0\0", framed(b"cut off")[:-1], b"\xff" * 5 * CHUNK_BYTES])
def test_a_torn_tail_is_the_end(tmp_path: Path, tail: bytes) -> None:
    segments = begun(tmp_path)
    segments.append([encoded(piece(1))])
    segments.close()
    with folders.segment_path(tmp_path, 1).open("ab") as file:
        file.write(tail)
    reader = LogReader(tmp_path)
    assert [one for _, one in read_all(reader)][1:] == [piece(1)]
    assert reader.read() == []


def test_a_whole_frame_that_is_no_record_is_damage(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([b"\xc0"])
    with pytest.raises(Damaged, match=r"00000001\.segment: no record at byte \d+"):
        LogReader(tmp_path).read()
    with pytest.raises(Damaged, match=r"00000001\.segment"):
        records_of(tmp_path, 1)
    segments.close()


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([encoded(piece(1))])
    at = segments.sync().offset
    segments.append([encoded(piece(2))])
    segments.sync()
    segments.begin(0, GENESIS)
    segments.close()
    path = folders.segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[at + 9] ^= 1
    path.write_bytes(data)
    reader = LogReader(tmp_path)
    assert [one for _, one in reader.read()][1:] == [piece(1)]
    with pytest.raises(Damaged, match=f"damaged at byte {at}"):
        reader.read()


def test_damage_in_what_is_durable_is_named_while_it_is_being_appended_to(tmp_path: Path) -> None:
    segments, reader = begun(tmp_path), LogReader(tmp_path)
    first = segments.sync()
    segments.append([encoded(piece(1))])
    limit = segments.sync()
    path = folders.segment_path(tmp_path, 1)
    data = path.read_bytes()
    path.write_bytes(data[: first.offset + 10] + b"?" + data[first.offset + 11 :])
    assert len(reader.read(limit)) == 1
    with pytest.raises(Damaged, match=f"{path.name}: damaged at byte {first.offset}"):
        reader.read(limit)
    segments.close()


def test_a_segment_that_was_never_begun_has_nothing(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([encoded(piece(1))])
    segments.close()
    folders.segment_path(tmp_path, 2).write_bytes(b"\0\0\0")
    begun(tmp_path).close()
    assert [number for number, _ in read_all(LogReader(tmp_path))] == [1, 1, 3]
