"""Share the numbers of several worker processes: each has its own in files of one folder, and who is scraped adds them.

prometheus_client does it (its "multiprocess mode") where its environment variable PROMETHEUS_MULTIPROC_DIR names the
folder. It reads the variable itself, when it is imported and whenever it opens a file, and takes no argument instead.
So nothing here sets it: whoever starts the workers does, and without it a process has its numbers to itself. The folder
belongs into memory (a tmpfs): a process that writes to a mapped file on a full disk is killed (SIGBUS, mmap(2)).
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

log = logging.getLogger("extproc.metrics")

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

# How prometheus_client names its files: by type, of gauges with the mode, and by process.
_KEPT: Final = ("counter", "histogram")
_FILE: Final = re.compile(r"(?:counter|histogram|gauge_[a-z]+)_(\d+)\.db")


@contextmanager
def joined(folder: Path) -> Iterator[None]:
    """Make this process one of those that share `folder`; it opens its files inside the context.

    The first one empties it: sums are over the workers of one run, those that died since included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Of two that start together the second must see the first one's files.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A container that starts again may have the process id that it had before.
        if not any(_lives(pid) for pid in _processes(folder) - {os.getpid()}):
            for path in folder.glob("*.db"):
                path.unlink()
        yield
    finally:
        os.close(descriptor)


def gathered(folder: Path) -> CollectorRegistry:
    """Return a registry with the numbers of all workers, without the gauges of those that are dead."""
    for pid in _processes(folder):
        if not _lives(pid):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


def keep(folder: Path) -> None:
    """Have this process keep the numbers of others that end; while it lives, the folder is of one run."""
    with joined(folder):
        for kind in _KEPT:
            _own(folder, kind).close()  # type: ignore[no-untyped-call]


def left_by(folder: Path, process: int) -> None:
    """Add what a process counted that ended to what this one keeps, and remove its files. Nobody may read meanwhile.

    Files that it was killed in the middle of, and what there is no room for, are lost, and the log says so.
    """
    for kind in _KEPT:
        path = folder / f"{kind}_{process}.db"
        try:
            if path.exists():
                _keep(folder, kind, path)
        except (OSError, ValueError, RuntimeError, struct.error) as failure:
            fields = {"file": path.name, "why": type(failure).__name__}
            log.warning("the counts of a worker that ended are lost", extra={"fields": fields})
        # One that cannot be read would fail every scrape.
        path.unlink(missing_ok=True)
    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]


def _keep(folder: Path, kind: str, path: Path) -> None:
    own = _own(folder, kind)
    try:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            own.write_value(key, own.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        own.close()  # type: ignore[no-untyped-call]


def _own(folder: Path, kind: str) -> MmapedDict:
    return MmapedDict(str(folder / f"{kind}_{os.getpid()}.db"))  # type: ignore[no-untyped-call]


def _processes(folder: Path) -> set[int]:
    return {int(found[1]) for path in folder.iterdir() if (found := _FILE.fullmatch(path.name))}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
