from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from extproc.recording.entry import GENESIS
from extproc.spool import folders
from extproc.spool.frames import HEADER_BYTES, frames
from extproc.spool.records import Begin, decoded
from extproc.spool.segments import Position, Segments
from tests.disks import fill, small_disk


def begun(folder: Path, *, reserve_bytes: int = 4096, segment_bytes: int = 1 << 20) -> Segments:
    segments = Segments(folder, "log", reserve_bytes=reserve_bytes, segment_bytes=segment_bytes)
    segments.begin(0, GENESIS)
    return segments


def payloads(folder: Path, number: int = 1) -> list[bytes]:
    """Return what was appended to a segment."""
    found = [payload for payload, _ in frames(folders.segment_path(folder, number).read_bytes())]
    assert isinstance(decoded(found[0]), Begin)
    return found[1:]


def test_what_is_appended_is_in_the_file_at_once(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([b"one", b"two"])
    segments.append([b"three"])
    assert payloads(tmp_path) == [b"one", b"two", b"three"]
    assert segments.bytes == folders.bytes_in(tmp_path)
    segments.close()


def test_sync_says_how_far_the_log_is_durable(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([b"one"])
    position = segments.sync()
    assert position == Position(1, folders.segment_path(tmp_path, 1).stat().st_size)
    segments.append([b"two"])
    assert segments.sync() > position
    segments.close()


def test_a_segment_says_where_the_log_stood_and_how_much_of_the_one_before_was_durable(tmp_path: Path) -> None:
    segments = begun(tmp_path, segment_bytes=150)
    long = [segments.is_long]
    segments.append([bytes(100)])
    durable = segments.sync()
    segments.append([b"not flushed"])
    long.append(segments.is_long)
    segments.begin(7, "f" * 64)
    assert [*long, segments.is_long] == [False, True, False]
    segments.append([b"two"])
    first = next(frames(folders.segment_path(tmp_path, 2).read_bytes()))[0]
    assert decoded(first) == Begin(1, "log", 7, "f" * 64, durable.offset)
    assert payloads(tmp_path, 2) == [b"two"]
    assert segments.bytes == folders.bytes_in(tmp_path)
    segments.forget(10)
    assert segments.bytes == folders.bytes_in(tmp_path) - 10
    segments.close()


def test_segments_go_on_after_those_that_are_there(tmp_path: Path) -> None:
    begun(tmp_path).close()
    begun(tmp_path).close()
    assert folders.segments_in(tmp_path) == [1, 2]


def test_many_threads_append_whole_frames(tmp_path: Path) -> None:
    segments = begun(tmp_path)

    def work(name: int) -> None:
        for number in range(200):
            segments.append([b"%d %d" % (name, number), bytes(number + 1)])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    segments.begin(1, GENESIS)
    for thread in threads:
        thread.join()
    segments.close()
    found = payloads(tmp_path, 1) + payloads(tmp_path, 2)
    assert len(found) == 1600
    for name in range(4):
        assert [one for one in found[::2] if one.startswith(b"%d " % name)] == [
            b"%d %d" % (name, n) for n in range(200)
        ]


def test_a_full_disk_takes_all_or_nothing_and_what_is_urgent_uses_what_was_put_by(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as folder:
        segments = begun(folder, reserve_bytes=64 << 10)
        segments.put_by()
        segments.append([b"before"])
        filling = fill(folder)
        size = folders.segment_path(folder, 1).stat().st_size
        with pytest.raises(OSError, match="No space left"):
            segments.append([bytes(16 << 10)])
        assert folders.segment_path(folder, 1).stat().st_size == size
        segments.append([b"urgent" * 1000], urgent=True)
        assert payloads(folder) == [b"before", b"urgent" * 1000]
        assert not (folder / folders.RESERVE).exists()
        fill(folder)
        with pytest.raises(OSError, match="No space left"):
            segments.append([bytes(16 << 10)], urgent=True)
        with pytest.raises(OSError, match="No space left"):
            segments.put_by()
        assert not (folder / folders.RESERVE).exists()
        with pytest.raises(OSError, match="No space left"):
            segments.begin(1, GENESIS)
        assert segments.broken is None
        filling.unlink()
        segments.append([b"after"])
        segments.put_by()
        assert payloads(folder) == [b"before", b"urgent" * 1000, b"after"]
        assert segments.bytes == folders.segment_path(folder, 1).stat().st_size
        segments.close()


SHORT_WRITES = """
import resource, sys
from pathlib import Path
from extproc.spool.segments import Segments
folder = Path(sys.argv[1])
segments = Segments(folder, "log", reserve_bytes=0)
segments.begin(0, "")
segments.append([b"before"])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    segments.append([b"first", bytes(10000)])
except OSError as failure:
    print(failure.strerror)
segments.append([b"after"])
print(segments.broken)
"""


def test_a_short_write_is_taken_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHORT_WRITES, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])  # noqa: S603 - as written above
    assert ran.stdout == "File too large\nNone\n"
    assert payloads(tmp_path) == [b"before", b"after"]


def put_in_place_of_the_file(segments: Segments, descriptor: int) -> None:
    os.dup2(descriptor, segments._descriptor)


def test_what_could_not_be_flushed_breaks_it_for_good(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([b"one"])
    reading, writing = os.pipe()
    put_in_place_of_the_file(segments, writing)  # fdatasync(2) of a pipe fails, writing to it does not
    segments.append([b"two"])
    with pytest.raises(OSError, match="Invalid argument"):
        segments.sync()
    assert segments.broken == "cannot make the spool durable: Invalid argument"
    with pytest.raises(OSError, match="cannot make the spool durable"):
        segments.append([b"three"], urgent=True)
    os.close(reading)
    os.close(writing)
    segments.close()
    assert segments.broken == "cannot make the spool durable: Invalid argument"


def test_a_failed_write_that_cannot_be_taken_back_breaks_it_for_good(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.put_by()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    put_in_place_of_the_file(segments, writing)
    with pytest.raises(OSError, match="unavailable"):
        segments.append([bytes(1 << 20)], urgent=True)
    assert segments.broken == "a failed write could not be taken back: Resource temporarily unavailable"
    held = len(os.read(reading, 1 << 20))
    assert 0 < held < HEADER_BYTES + (1 << 20)
    # Nothing follows what is torn, though there is room again.
    with pytest.raises(OSError, match="could not be taken back"):
        segments.append([b"two"], urgent=True)
    with pytest.raises(BlockingIOError):
        os.set_blocking(reading, False)
        os.read(reading, 1)
    assert (tmp_path / folders.RESERVE).exists()
    os.close(reading)
    os.close(writing)
    segments.close()


def test_a_segment_that_cannot_be_begun_leaves_the_one_before_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    segments = begun(folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        segments.begin(1, GENESIS)
    segments.append([b"goes on"])
    segments.moved(tmp_path / "elsewhere")
    segments.begin(1, GENESIS)
    assert payloads(tmp_path / "elsewhere", 1) == [b"goes on"]
    assert folders.segments_in(tmp_path / "elsewhere") == [1, 2]
    segments.close()


def test_a_segment_that_somebody_removed_takes_nothing_more(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.append([b"one"])
    folders.segment_path(tmp_path, 1).unlink()
    with pytest.raises(OSError, match="somebody removed the segment"):
        segments.sync()
    with pytest.raises(OSError, match="somebody removed the segment"):
        segments.append([b"two"])
    segments.close()


def test_nothing_is_appended_after_closing(tmp_path: Path) -> None:
    segments = begun(tmp_path)
    segments.close()
    segments.close()
    with pytest.raises(OSError, match="the spool is closed"):
        segments.append([b"late"])
    assert payloads(tmp_path) == []


def test_room_is_put_by_once(tmp_path: Path) -> None:
    segments = begun(tmp_path, reserve_bytes=12345)
    segments.put_by()
    segments.put_by()
    assert (tmp_path / folders.RESERVE).stat().st_size == 12345
    assert folders.bytes_in(tmp_path) == segments.bytes
    segments.close()


def test_python_survives_the_signal_of_a_file_that_gets_too_large() -> None:
    # What the short write above relies on: without it the process would die instead of getting an error.
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
