"""Choose the adapters that the settings ask for. What needs Azure is loaded only where it is used: it takes a while."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from extproc.config_recording import CosmosStore as CosmosSection
from extproc.config_recording import Places
from extproc.credentials.source import FileSource
from extproc.errors import ConfigError, Refused
from extproc.keys.wrapping_key import load_or_create_wrapping_key, load_wrapping_key
from extproc.recording.envelope import Envelope
from extproc.store.approvals_port import Approvals
from extproc.store.archive_listing import ArchiveListing
from extproc.store.port import Archive, Eraser, Ledger, Listing, Store
from extproc.store.sqlite_approvals import SqliteApprovals
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_index import SqliteIndex
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from extproc.witness.port import Witness

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from extproc.store.cosmos import CosmosSettings
    from extproc.store.cosmos_ledger import CosmosLedger


async def store_of(places: Places, stack: AsyncExitStack) -> Store:
    """Return the store to write to; the stack closes what belongs to it."""
    section = places.store.cosmos
    if section is None:
        return SqliteStore(places.record)
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    from extproc.store.cosmos_store import CosmosStore  # noqa: PLC0415

    settings = cosmos_settings(places, section)
    credential = None
    if settings.key is None:
        credential = DefaultAzureCredential()
        stack.push_async_callback(credential.close)
    return CosmosStore(settings, credential)


def approvals_of(places: Places, stack: AsyncExitStack, *, instance: str | None, now: Callable[[], float]) -> Approvals:
    """Return the approvals: of all replicas where the store is in Cosmos DB, else of this state directory.

    `instance` is `REPLICA.WORKER.EPOCH` (`extproc.spool.folders.log_name`) for a process that serves: what an earlier
    process of the same replica and worker left pending is then ended. The stack closes it. Raises StoreUnavailable.
    """
    section = places.store.cosmos
    if section is None:
        in_file = SqliteApprovals(places.approvals, instance=instance, now=now())
        stack.push_async_callback(in_file.aclose)
        return in_file
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    from extproc.store.cosmos_approvals import CosmosApprovals  # noqa: PLC0415

    settings = replace(cosmos_settings(places, section), container=section.approvals_container)
    credential = None
    if settings.key is None:
        credential = DefaultAzureCredential()
        stack.push_async_callback(credential.close)
    approvals = CosmosApprovals(settings, credential, instance=instance, now=now)
    stack.push_async_callback(approvals.aclose)
    if instance is not None:
        approvals.interrupt_orphans()
    return approvals


def approvals_poll_seconds(places: Places) -> float:
    """Return how often a process that waits asks the store what has ended: each time costs request units."""
    return 0.25 if places.store.cosmos is None else 1.0


def archive_of(places: Places) -> Archive:
    """Return what reads the record for people."""
    section, envelope = places.store.cosmos, envelope_of(places, create=False)
    if section is None:
        return SqliteArchive(places.record, envelope)
    from extproc.store.cosmos_archive import CosmosArchive  # noqa: PLC0415

    return CosmosArchive(*_cosmos(places, section), envelope=envelope)


def listing_of(places: Places, now: Callable[[], float]) -> Listing:
    """Return what lists sessions and findings page by page, for the console.

    A record in SQLite gets an index beside it, which is made of it and can be removed at any time.
    """
    if places.store.cosmos is not None:
        return ArchiveListing(archive_of(places), now)
    return SqliteIndex(places.record, places.search_index, envelope_of(places, create=False))


def ledger_of(places: Places) -> SqliteLedger | CosmosLedger:
    """Return what reads the record as evidence."""
    section = places.store.cosmos
    if section is None:
        return SqliteLedger(places.record)
    from extproc.store.cosmos_ledger import CosmosLedger  # noqa: PLC0415

    return CosmosLedger(*_cosmos(places, section))


@contextmanager
def opened_ledger(places: Places) -> Iterator[Ledger]:
    """Open what `ledger_of` returns for as long as the context lasts."""
    ledger = ledger_of(places)
    try:
        yield ledger
    finally:
        if not isinstance(ledger, SqliteLedger):
            ledger.close()


def eraser_of(places: Places) -> Eraser:
    """Return what removes by rule."""
    section = places.store.cosmos
    if section is None:
        return SqliteEraser(places.record)
    from extproc.store.cosmos_eraser import CosmosEraser  # noqa: PLC0415

    return CosmosEraser(*_cosmos(places, section))


def envelope_of(places: Places, *, create: bool) -> Envelope | None:
    """Return what encrypts and decrypts content, None where nothing is; raises ConfigError without its key.

    With `create` the key file is made where there is none.
    """
    section = places.recording.encryption
    if section is None:
        return None
    if section.key_file is not None:
        path = places.state / section.key_file
        key = load_or_create_wrapping_key(path) if create else load_wrapping_key(path)
        return Envelope(key.wrap, key.unwrap, secrets.token_bytes)
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415

    from extproc.keys.key_vault import KeyVaultKey  # noqa: PLC0415

    vault = KeyVaultKey(section.key_vault_key or "", DefaultAzureCredential())
    return Envelope(vault.wrap, vault.unwrap, secrets.token_bytes)


def azure_blob_witness(name: str, account_url: str, container: str, stack: AsyncExitStack) -> Witness:
    """Return a witness in Azure Blob Storage; the stack closes its connections."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    from extproc.witness import azure_blob  # noqa: PLC0415

    credential = DefaultAzureCredential()
    stack.push_async_callback(credential.close)
    witness = azure_blob.connect(name, account_url, container, credential)
    stack.push_async_callback(witness.aclose)
    return witness


def no_wrapping_key(key_id: str) -> ConfigError:
    """Return the error of a log that was encrypted, where the settings name no key any more."""
    return ConfigError(f"recording.encryption: data key {key_id} needs the key that wrapped it, and none is set")


def cosmos_settings(places: Places, section: CosmosSection) -> CosmosSettings:
    """Return where the container is; raises ConfigError."""
    from extproc.store.cosmos import CosmosSettings  # noqa: PLC0415

    key = None
    if section.key_file is not None:
        path = places.state / section.key_file
        try:
            key = FileSource("store.cosmos.key_file", path).read()
        except Refused as refused:
            raise ConfigError(f"{path}: {refused.refusal.message}") from None
    return CosmosSettings(
        endpoint=section.endpoint,
        database=section.database,
        container=section.container,
        key=key,
        preferred_locations=tuple(section.preferred_regions),
        endpoint_discovery=section.endpoint_discovery,
    )


def _cosmos(places: Places, section: CosmosSection) -> tuple[CosmosSettings, TokenCredential | None]:
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415

    settings = cosmos_settings(places, section)
    return settings, None if settings.key is not None else DefaultAzureCredential()
