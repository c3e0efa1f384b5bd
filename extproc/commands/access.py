"""Reading is recorded: who looked at what, before it is shown."""

from __future__ import annotations

import os
import pwd
import socket
import time

from extproc.config_recording import Places
from extproc.errors import ExtprocError, StoreUnavailable
from extproc.exchange_id import exchange_id
from extproc.recording.entry import Draft, Kind
from extproc.recording.facts import bounded, microseconds
from extproc.spool import oneshot
from extproc.spool.sealing import session_of


def note(places: Places, action: str, **what: str | int | None) -> None:
    """Record that the user of this machine does `action` (`show`, `replay`, `export`) with what is named.

    The entry is durable in the spool when this returns, and in the store once the service ships it. Raises ExtprocError
    where it cannot be recorded: then nothing may be shown.
    """
    now = time.time()
    access_id = exchange_id(now)
    log = oneshot.log_of_command(places.recording.replica, access_id)
    facts = bounded({"by": operator(), "action": action, **what})
    draft = Draft(Kind.ACCESS, f"access.{access_id}", session_of(log), microseconds(now), facts)
    try:
        oneshot.record(places.spool, log, [draft], now)
    except StoreUnavailable as failure:
        raise ExtprocError(f"reading is recorded, and that failed, so nothing is shown: {failure}") from failure


def operator() -> str:
    """Return who runs this command, as this machine knows them."""
    return f"os:{account()}@{socket.gethostname()}"


def account() -> str:
    """Return the name of this user, or the number where nobody gave it one."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
