from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.store.alive import alive, hold, lock_file, remove_dead

HOLD = """
import sys
from pathlib import Path
from extproc.store.alive import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lock_file(tmp_path / "record.db", "one")


def test_a_process_that_holds_its_file_is_alive_and_the_file_goes_when_it_lets_go(path: Path) -> None:
    with hold(path):
        assert alive(path)
        assert path.exists()
    assert not path.exists()
    assert not alive(path)


def test_a_file_is_held_by_one_at_a_time(path: Path) -> None:
    with hold(path):
        with pytest.raises(BlockingIOError), hold(path):
            pass
        assert alive(path)


def test_a_failure_lets_go_too(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(path):
        raise ZeroDivisionError
    assert not alive(path)


def test_a_killed_process_is_not_alive_and_its_file_is_cleared_away(path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=pipe, stdout=pipe) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert alive(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists()
        assert not alive(path)
    assert not path.exists()


def test_who_takes_over_the_file_of_a_dead_process_holds_a_file_that_others_see(path: Path) -> None:
    path.touch()
    with hold(path):
        assert alive(path)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    os.close(descriptor)
    assert not alive(path)


def test_lock_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    left = [lock_file(path, "dead"), lock_file(path, "dead-too")]
    for one in left:
        one.touch()
    with hold(lock_file(path, "here")):
        remove_dead(path)
        assert sorted(tmp_path.iterdir()) == [path, lock_file(path, "here")]
