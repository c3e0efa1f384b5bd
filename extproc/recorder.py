"""Put together what records: the spool, the store behind it, checkpoints and their witnesses."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from extproc import stores
from extproc.config_recording import AzureBlobWitness, FileWitness, HttpWitness, Places
from extproc.credentials.source import FileSource
from extproc.keys.checkpoint_key import load_or_create_signer
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.metrics_state import RecordingState
from extproc.recording.entry import Chain, WrappedKey
from extproc.recording.envelope import DataKey, Envelope
from extproc.secret import Secret
from extproc.shipping.outlets import Cadence, Outlets
from extproc.shipping.shipper import Shipper
from extproc.spool import folders, records
from extproc.spool.recovery import recover
from extproc.spool.sealing import Sealer
from extproc.spool.spool import Spool, SpoolBounds
from extproc.tracing.lines import proposed_fingerprints
from extproc.witness.file import FileWitness as FileOutlet
from extproc.witness.http import HttpWitness as HttpOutlet
from extproc.witness.port import Witness
from extproc.witness.witnesses import Witnesses

log = logging.getLogger("extproc.recorder")


@dataclass(frozen=True, slots=True)
class Recording:
    """What records while a process serves."""

    spool: Spool
    shipper: Shipper
    witnesses: Witnesses
    sealer: Sealer
    spool_max_bytes: int

    def state(self) -> RecordingState:
        """Return how it stands, for metrics."""
        outlets = self.shipper.outlets
        return RecordingState(
            spool_bytes=self.spool.bytes,
            spool_max_bytes=self.spool_max_bytes,
            behind_seconds=self.shipper.behind_seconds,
            checkpoint_age_seconds=self.shipper.checkpoint_age,
            store_retries=outlets.retries,
            conflicts=outlets.conflicts,
            interrupted=self.shipper.interrupted,
            refused_logs=self.shipper.refused_logs,
            witness_behind_seconds=self.witnesses.behind(),
            contradictions=self.witnesses.contradictions(),
            chain_index=self.sealer.chain.index,
        )


@asynccontextmanager
async def recording(
    places: Places,
    *,
    epoch: str,
    worker: str,
    session: aiohttp.ClientSession,
    now: Callable[[], float],
    wrote: Callable[[float], None] = lambda _seconds: None,
) -> AsyncIterator[Recording]:
    """Record until left; what the store has not taken then stays in the spool for the next start.

    `wrote` is told how many seconds the store took for each write.
    """
    settings = places.recording
    lines = line_fingerprints(places)
    envelope = stores.envelope_of(places, create=True)
    name = folders.log_name(settings.replica, worker, epoch)
    async with AsyncExitStack() as stack:
        outlets = await outlets_of(places, stack, session=session, now=now)
        outlets.wrote = wrote
        shipper = Shipper(places.spool, outlets, recovering(now=now, lines=lines, envelope=envelope))
        stack.push_async_callback(shipper.aclose)
        sealer = Sealer(Chain(name), lines=lines, new_key=None if envelope is None else envelope.new_key)
        spool = Spool(
            places.spool,
            name,
            sealer,
            bounds=SpoolBounds(max_bytes=settings.spool.max_bytes, reserve_bytes=settings.spool.reserve_bytes),
            now=now,
            on_durable=shipper.wake,
        )
        stack.push_async_callback(spool.aclose)
        if spool.fault is not None:
            log.error("no exchange can be recorded", extra={"fields": {"why": spool.fault}})
        shipper.start(spool)
        yield Recording(spool, shipper, outlets.witnesses, sealer, settings.spool.max_bytes)


async def outlets_of(
    places: Places, stack: AsyncExitStack, *, session: aiohttp.ClientSession, now: Callable[[], float]
) -> Outlets:
    """Return where logs are shipped to; the stack closes it."""
    settings = places.recording
    signer = load_or_create_signer(places.checkpoint_key, settings.checkpoints.name)
    found = [
        _witness(one, f"witnesses[{number}]", places, stack=stack, session=session, now=now)
        for number, one in enumerate(settings.checkpoints.witnesses)
    ]
    witnesses = Witnesses(found, now=now)
    stack.push_async_callback(witnesses.aclose)
    store = await stores.store_of(places, stack)
    stack.push_async_callback(store.aclose)
    cadence = Cadence(
        entries=settings.checkpoints.entries,
        seconds=settings.checkpoints.seconds,
        idle_seconds=settings.checkpoints.idle_seconds,
        keep_seconds=settings.spool.keep_seconds,
    )
    return Outlets(store, signer, witnesses, cadence, now=now, jitter=random.random)


def recovering(
    *, now: Callable[[], float], lines: Callable[[Mapping[str, Any]], list[str]], envelope: Envelope | None
) -> Callable[[Path], int]:
    """Return what ends the log of a dead process."""

    def open_key(session: str, wrapped: records.WrappedKey) -> DataKey:
        if envelope is None:
            raise stores.no_wrapping_key(wrapped[0])
        return envelope.open(WrappedKey(wrapped[0], session, wrapped[1]))

    return lambda folder: recover(folder, now=now(), lines=lines, open_key=open_key)


def line_fingerprints(places: Places) -> Callable[[Mapping[str, Any]], list[str]]:
    """Return what finds the lines of code in an answer, by the key of the state directory."""
    key = load_or_create_key(places.fingerprint_key)
    return lambda document: proposed_fingerprints(document.get("response") or {}, key, document["request"])


def _witness(
    section: FileWitness | HttpWitness | AzureBlobWitness,
    name: str,
    places: Places,
    *,
    stack: AsyncExitStack,
    session: aiohttp.ClientSession,
    now: Callable[[], float],
) -> Witness:
    match section:
        case FileWitness():
            path = section.path if section.path == Path("-") else places.state / section.path
            return FileOutlet(name, path, now=now)
        case HttpWitness():
            token = None if section.token_file is None else FileSource(name, places.state / section.token_file)
            return HttpOutlet(name, Secret(section.url), session=session, token=token)
        case AzureBlobWitness():
            return stores.azure_blob_witness(name, section.account_url, section.container, stack)
