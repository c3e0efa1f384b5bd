from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from extproc import stores
from extproc.config_recording import CosmosStore, EncryptionSettings, Places, RecordingSettings, StoreSettings
from extproc.errors import ConfigError
from extproc.keys.key_vault import KeyVaultKey
from extproc.recording.entry import WrappedKey
from extproc.store.cosmos_archive import CosmosArchive
from extproc.store.cosmos_eraser import CosmosEraser
from extproc.store.cosmos_ledger import CosmosLedger
from extproc.store.cosmos_store import CosmosStore as CosmosWriter
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from extproc.witness.azure_blob import AzureBlobWitness


def places(base: Path, *, cosmos: dict[str, Any] | None = None, **recording: Any) -> Places:
    store = StoreSettings(sqlite=Path("record.db")) if cosmos is None else StoreSettings(cosmos=CosmosStore(**cosmos))
    return Places(base, Path(), store, RecordingSettings(**recording))


def in_cosmos(base: Path) -> Places:
    (base / "cosmos.key").write_text("a2V5a2V5a2V5\n")
    return places(base, cosmos={"endpoint": "https://acme.documents.azure.com", "key_file": Path("cosmos.key")})


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def test_a_file_is_written_and_read_by_the_sqlite_adapters(tmp_path: Path, stack: AsyncExitStack) -> None:
    where = places(tmp_path)
    store = await stores.store_of(where, stack)
    stack.push_async_callback(store.aclose)
    assert isinstance(store, SqliteStore)
    assert isinstance(stores.archive_of(where), SqliteArchive)
    assert isinstance(stores.eraser_of(where), SqliteEraser)
    with stores.opened_ledger(where) as ledger:
        assert isinstance(ledger, SqliteLedger)
        assert ledger.logs() == []


async def test_a_container_is_written_and_read_by_the_cosmos_adapters(tmp_path: Path, stack: AsyncExitStack) -> None:
    where = in_cosmos(tmp_path)
    store = await stores.store_of(where, stack)
    stack.push_async_callback(store.aclose)
    assert isinstance(store, CosmosWriter)
    assert isinstance(stores.archive_of(where), CosmosArchive)
    assert isinstance(stores.eraser_of(where), CosmosEraser)
    with stores.opened_ledger(where) as ledger:
        assert isinstance(ledger, CosmosLedger)


def test_the_settings_of_a_container_are_passed_on(tmp_path: Path) -> None:
    where = in_cosmos(tmp_path)
    assert where.store.cosmos is not None
    settings = stores.cosmos_settings(where, where.store.cosmos)
    assert settings.key is not None
    assert (settings.endpoint, settings.key.reveal()) == ("https://acme.documents.azure.com", "a2V5a2V5a2V5")
    assert (settings.database, settings.container) == ("extproc", "recording")


def test_a_container_without_its_key_says_which_file(tmp_path: Path) -> None:
    where = in_cosmos(tmp_path)
    (tmp_path / "cosmos.key").unlink()
    with pytest.raises(ConfigError, match=r"cosmos\.key"):
        stores.ledger_of(where)


def test_nothing_is_encrypted_unless_the_settings_say_so(tmp_path: Path) -> None:
    assert stores.envelope_of(places(tmp_path), create=True) is None


def test_the_key_file_is_made_by_the_service_and_only_read_by_commands(tmp_path: Path) -> None:
    where = places(tmp_path, encryption=EncryptionSettings(key_file=Path("wrapping.key")))
    with pytest.raises(ConfigError, match=r"wrapping\.key"):
        stores.envelope_of(where, create=False)
    writing = stores.envelope_of(where, create=True)
    reading = stores.envelope_of(where, create=False)
    assert writing is not None
    assert reading is not None
    key = writing.new_key("s1", "k1")
    opened = reading.open(WrappedKey(key.id, key.session, key.wrapped))
    assert opened.reveal(key.protect(b"prompt")) == b"prompt"


def test_a_key_in_key_vault_wraps_where_the_settings_name_one(tmp_path: Path) -> None:
    address = f"https://acme.vault.azure.net/keys/record/{'0' * 32}"
    envelope = stores.envelope_of(places(tmp_path, encryption=EncryptionSettings(key_vault_key=address)), create=True)
    assert envelope is not None
    assert isinstance(envelope._wrap.__self__, KeyVaultKey)  # type: ignore[attr-defined]


async def test_a_witness_in_blob_storage_belongs_to_the_stack(stack: AsyncExitStack) -> None:
    witness = stores.azure_blob_witness("witnesses[0]", "https://acme.blob.core.windows.net", "checkpoints", stack)
    assert isinstance(witness, AzureBlobWitness)
