from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from extproc.witness.append import append_lines

APPEND_MANY = """
import pathlib, sys
from extproc.witness.append import append_lines
for _ in range(200):
    append_lines(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 300 + b"\\n")
"""


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def test_lines_are_added_to_what_is_there_and_a_new_file_has_the_asked_mode(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        append_lines(tmp_path / "f", b"one\n")
        append_lines(tmp_path / "f", b"two\nthree\n")
        append_lines(tmp_path / "g", b"one\n", 0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "f").read_bytes() == b"one\ntwo\nthree\n"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o600


def test_a_line_that_was_left_unfinished_is_ended_first(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one\ntw")
    append_lines(tmp_path / "f", b"three\n")
    assert (tmp_path / "f").read_bytes() == b"one\ntw\nthree\n"


def test_what_does_not_fit_is_an_error_and_spoils_nothing_after_it(tmp_path: Path) -> None:
    append_lines(tmp_path / "f", b"one\n")
    with files_up_to(6), pytest.raises(OSError, match="only 2 of 6"):
        append_lines(tmp_path / "f", b"three\n")
    append_lines(tmp_path / "f", b"three\n")
    assert (tmp_path / "f").read_bytes() == b"one\nth\nthree\n"


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPEND_MANY, str(tmp_path / "f")]
    processes = [subprocess.Popen([*command, name]) for name in "ab"]  # noqa: S603 - our own program
    assert [process.wait(30) for process in processes] == [0, 0]
    # An empty line may stand where one process saw a part of what the other was writing.
    lines = [line for line in (tmp_path / "f").read_bytes().splitlines() if line]
    assert sorted(lines) == [b"a" * 300] * 200 + [b"b" * 300] * 200
