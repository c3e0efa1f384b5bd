"""Whether exchanges can be recorded: the spool takes entries, and the store takes them from there."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from extproc import stores
from extproc.config_recording import Places
from extproc.doctor.check import Check, Verdict, aside, failed, ok, skipped
from extproc.errors import StoreUnavailable
from extproc.exchange_id import exchange_id
from extproc.recording.entry import Draft, Kind
from extproc.recording.facts import bounded, microseconds
from extproc.spool import folders, oneshot
from extproc.spool.sealing import session_of

_POLL_SECONDS: Final = 0.2
_MIB: Final = 1 << 20


def checks(places: Places, by: str, now: Callable[[], float], *, seconds: float, store_seconds: float) -> list[Check]:
    """Return all of them; `by` is who looks.

    The store may take `store_seconds`: the service ships what is new within some seconds.
    """
    return [
        Check("spool.writable", lambda: aside(lambda: _spool(places)), seconds + 1),
        Check("store.writable", lambda: _store(places, by, store_seconds, now()), store_seconds + 5),
        Check("store.readable", lambda: aside(lambda: _readable(places)), store_seconds),
    ]


def _spool(places: Places) -> Verdict:
    root = places.spool
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".doctor-") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(root).free
    except OSError as error:
        where = "Is there room?" if error.errno == errno.ENOSPC else "Is the volume mounted, for the service's user?"
        return failed(f"The spool {root} cannot be written ({error.strerror}): no exchange begins.", where)
    reserve = places.recording.spool.reserve_bytes
    if free < reserve:
        return failed(
            f"The disk of the spool {root} has {free // _MIB} MiB left, and its reserve is {reserve // _MIB} MiB.",
            "Make room, or a larger volume.",
        )
    return ok(f"The spool {root} takes writes, and {free // _MIB} MiB are free.")


async def _store(places: Places, by: str, seconds: float, at: float) -> Verdict:
    """Record that a doctor was here, as any command that reads, and wait until the service has shipped it.

    A log leaves the spool, or is marked as shipped where it is kept, when the store has acknowledged its entries.
    """
    access_id = exchange_id(at)
    log = oneshot.log_of_command(places.recording.replica, access_id)
    facts = bounded({"by": by, "action": "doctor"})
    draft = Draft(Kind.ACCESS, f"access.{access_id}", session_of(log), microseconds(at), facts)
    try:
        await aside(lambda: oneshot.record(places.spool, log, [draft], at))
    except StoreUnavailable as failure:
        return failed(f"Nothing can be recorded: {failure}.", "See spool.writable.")
    folder = places.spool / log
    try:
        async with asyncio.timeout(seconds):
            while not _is_shipped(folder):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        return failed(
            f"The store did not take an entry within {seconds:g} s; it waits in the spool as {log}.",
            "Is the service running here? Its log says why the store does not take it: rights, or the network.",
        )
    return ok("The store took an entry, which says that this check was here.")


def _is_shipped(folder: Path) -> bool:
    return not folder.exists() or (folder / folders.SHIPPED).exists()


def _readable(places: Places) -> Verdict:
    try:
        with stores.opened_ledger(places) as ledger:
            # No exchange has this name; what counts is that the store says so.
            ledger.find("extproc-doctor")
    except StoreUnavailable as failure:
        if places.store.cosmos is not None and "may not" in str(failure):
            return skipped(f"This identity may not read the store, as is right for the gateway's: {failure}.")
        return failed(
            f"The store cannot be read: {failure}",
            "Is store in gateway.yaml right, and may this identity read it? The console needs that, not the gateway.",
        )
    return ok("The store can be read.")
