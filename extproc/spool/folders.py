"""Where a spool keeps what: a folder per log, in it numbered segments, and what was checkpointed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from extproc.durable import sync_folder

_SEGMENT: Final = re.compile(r"(\d{8})\.segment")
_LOG: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

_GONE: Final = ".gone"
RESERVE: Final = "reserve"
SHIPPED: Final = "shipped.json"


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:08d}.segment"


def segments_in(folder: Path) -> list[int]:
    """Return the numbers of a log's segments, in order."""
    found = (_SEGMENT.fullmatch(name) for name in (path.name for path in folder.iterdir()))
    return sorted(int(match[1]) for match in found if match is not None)


def logs_in(spool: Path) -> list[Path]:
    """Return the folders of the logs in a spool, the oldest name first; what is being made is hidden."""
    if not spool.is_dir():
        return []
    return sorted(path for path in spool.iterdir() if _LOG.fullmatch(path.name) and path.is_dir())


def log_name(replica: str, worker: str, epoch: str) -> str:
    """Return the name of a log; what cannot stand in a file name, or would divide it elsewhere, is replaced."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]", "-", part) or "-" for part in (replica, worker, epoch))


def bytes_in(folder: Path) -> int:
    """Return how much the files of a folder hold; what goes meanwhile, and another user's folder, counts nothing."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_file(follow_symlinks=False) and entry.name != RESERVE:
                        yield entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    except (FileNotFoundError, PermissionError):
        # A command that another user ran leaves a log that only that user may read; exchanges must not stop for it.
        return


def remove(folder: Path) -> None:
    """Remove a log; one that is removed in part, since the process died, must not be taken for a log."""
    gone = folder.with_name(f".{folder.name}{_GONE}")
    folder.rename(gone)
    sync_folder(folder.parent)
    sweep(folder.parent)


def sweep(spool: Path) -> None:
    """Remove what is left of logs that were removed."""
    for path in spool.glob(f".*{_GONE}"):
        # Another process may do the same.
        shutil.rmtree(path, ignore_errors=True)


class Lock:
    """Hold a log: whoever has its lock writes it, or ships what a dead process left. The system frees it at death."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; raises BlockingIOError where a process that lives has it, and other OSErrors."""
        # The folder itself: a file in it could be removed, and then two would hold one log.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the log meanwhile; raises FileNotFoundError then.
            folder.stat()
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
