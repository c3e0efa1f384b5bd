"""Entries that commands write: in the store, and signed, before the command goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import aiohttp

from extproc import stores
from extproc.config_recording import Places
from extproc.errors import StoreUnavailable
from extproc.exchange_id import exchange_id
from extproc.recorder import line_fingerprints, outlets_of, recovering
from extproc.recording.checkpoint import PublicKey, open_note
from extproc.recording.entry import Draft
from extproc.shipping.shipper import Shipper
from extproc.spool import oneshot
from extproc.store.port import Ledger

WAIT_SECONDS = 60.0
"""How long a command waits for its entries to be signed; they are in the spool then, and will be."""


def record(places: Places, drafts: Sequence[Draft]) -> None:
    """Return when these entries are in the store and below a checkpoint; raises `StoreUnavailable`."""
    now = time.time()
    log = oneshot.log_of_command(places.recording.replica, exchange_id(now))
    oneshot.record(places.spool, log, drafts, now)
    try:
        asyncio.run(asyncio.wait_for(_signed(places, log, len(drafts)), WAIT_SECONDS))
    except TimeoutError:
        raise StoreUnavailable(f"the store did not take log {log}; it waits in the spool {places.spool}") from None


async def _signed(places: Places, log: str, size: int) -> None:
    """Ship the log, unless a service does it first, and wait until it is signed."""
    envelope = stores.envelope_of(places, create=False)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        outlets = await outlets_of(places, stack, session=session, now=time.time)
        recover = recovering(now=time.time, lines=line_fingerprints(places), envelope=envelope)
        shipper = Shipper(places.spool, outlets, recover)
        stack.push_async_callback(shipper.aclose)
        ledger = stack.enter_context(stores.opened_ledger(places))
        while not await asyncio.to_thread(_is_signed, ledger, log, size, outlets.signer.public):
            await shipper.drain(log)
            await asyncio.sleep(0.1)


def _is_signed(ledger: Ledger, log: str, size: int, key: PublicKey) -> bool:
    return any(open_note(note, [key]).size >= size for note in ledger.checkpoints(log))
