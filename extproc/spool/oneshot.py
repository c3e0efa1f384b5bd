"""Record what a command does: a log of its own, which the service ships like that of a dead process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from extproc.durable import sync_folder
from extproc.errors import StoreUnavailable
from extproc.recording.entry import Chain, Draft
from extproc.spool import folders
from extproc.spool.folders import Lock
from extproc.spool.sealing import closed, entry_payload
from extproc.spool.segments import Segments


def record(root: Path, log: str, drafts: Sequence[Draft], now: float) -> None:
    """Make these entries durable as a whole, closed log in the spool; raises `StoreUnavailable`.

    They are in the store once a process ships them: the service does within seconds, or when it runs again.
    """
    folder = root / log
    hidden = root / f".{log}"
    chain = Chain(log)
    payloads = []
    for draft in [*drafts, closed(log, now, "done")]:
        payload, chain = entry_payload(chain, draft)
        payloads.append(payload)
    try:
        hidden.mkdir(mode=0o700, parents=True)
        lock = Lock(hidden)
        segments = Segments(hidden, log, reserve_bytes=0)
        try:
            first = Chain(log)
            segments.begin(first.index, first.prev)
            segments.append(payloads)
            segments.sync()
            hidden.rename(folder)
            sync_folder(root)
        finally:
            segments.close()
            lock.release()
    except OSError as failure:
        # Nobody else looks at it, and on a full disk it would take room.
        shutil.rmtree(hidden, ignore_errors=True)
        raise StoreUnavailable(f"cannot record this in the spool {root}: {failure.strerror or failure}") from failure


def log_of_command(replica: str, epoch: str) -> str:
    """Return the name of a command's log."""
    return folders.log_name(replica, "command", epoch)
