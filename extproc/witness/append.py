"""Append whole lines to a file that others may append to as well."""

from __future__ import annotations

import os
from pathlib import Path

from extproc.durable import sync_folder


def append_lines(path: Path, lines: bytes, mode: int = 0o644) -> None:
    """Append `lines`, which end in a line end, by one write, and return when they are durable; raises OSError.

    The file is made where there is none and opened anew each time, so that it may be renamed away. A line that a full
    disk or a power cut left unfinished is ended first, so that it spoils none of these; readers pass over lines that
    are empty or cut.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        end = os.fstat(descriptor).st_size
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        # One write with O_APPEND: the lines of several processes do not mix.
        data = b"\n" + lines if torn else lines
        if (written := os.write(descriptor, data)) != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were written")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if end == 0:
        sync_folder(path.parent)
