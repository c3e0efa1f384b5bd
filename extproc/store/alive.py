"""Lock files, by which processes of one machine know which of them live; the system frees a lock at any death."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_file(path: Path, instance: str) -> Path:
    """Return the lock file of a process that uses the file at `path`."""
    return path.with_name(f"{path.name}.{instance}.lock")


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Say that this process lives; the file is gone afterwards. Raises BlockingIOError where another one says so."""
    descriptor = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def alive(path: Path) -> bool:
    """Say whether a process that lives holds this lock file; remove the file if not."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_dead(path: Path) -> None:
    """Remove the lock files that dead processes left beside the file at `path`."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.lock"):
        alive(left)


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever looked between both calls took the file for a dead process's and removed it.
            if os.fstat(descriptor).st_ino == _inode(path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
