from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.spool import folders
from extproc.spool.folders import Lock


@given(st.text(max_size=20), st.text(max_size=5), st.text(max_size=20))
def test_every_name_of_a_log_can_be_a_folder_and_has_three_parts(replica: str, worker: str, epoch: str) -> None:
    name = folders.log_name(replica, worker, epoch)
    assert name.count(".") == 2
    assert not name.startswith(".")
    assert "/" not in name
    assert name.isascii()


def test_usual_names_stay_as_they_are() -> None:
    assert folders.log_name("pod-1", "0", "01JABC") == "pod-1.0.01JABC"


def test_logs_are_the_folders_that_are_not_hidden(tmp_path: Path) -> None:
    for name in ("b.0.2", "a.0.1", ".c.0.1", ".d.0.1.gone", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.0.1").touch()
    assert [path.name for path in folders.logs_in(tmp_path)] == ["a.0.1", "b.0.2"]
    assert folders.logs_in(tmp_path / "none") == []


def test_a_lock_is_held_by_one_until_it_is_released(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(BlockingIOError):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_the_lock_of_a_log_that_is_removed_meanwhile_is_not_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a.0.1"
    folder.mkdir()
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        folders.remove(folder)  # between opening the file and locking it, as another process may
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):
        Lock(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_was_removed_in_part_is_no_log_and_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.0.1.gone").mkdir()
    (tmp_path / ".a.0.1.gone" / "00000001.segment").touch()
    (tmp_path / ".b.0.1").mkdir()
    assert folders.logs_in(tmp_path) == []
    folders.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".b.0.1"]


HOLDING = """
import sys
from pathlib import Path
from extproc.spool.folders import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_system_frees_the_lock_of_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(  # noqa: S603 - as written above
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            Lock(tmp_path)
        process.kill()
    Lock(tmp_path).release()
