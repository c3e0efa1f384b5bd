"""The roles that come with the project are enough for what they are for, and for no more."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from azure.core.credentials import AccessToken

from extproc.certificates import operations as certificates
from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Chain, Draft, Kind
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_archive import CosmosArchive
from extproc.store.cosmos_eraser import CosmosEraser
from extproc.store.cosmos_ledger import CosmosLedger
from extproc.store.cosmos_store import CosmosStore
from extproc.store.port import Conflict
from tests.cosmos.rights import actions_of
from tests.cosmos.running import running
from tests.cosmos.server import FakeCosmos
from tests.store.cosmos_backend import impatient

ROLES = Path(__file__).parents[2] / "k8s" / "azure"

# The SDK does not verify certificates of this machine, and the sync one warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")


class Identity:
    """A credential whose token is the name of a role."""

    def __init__(self, role: str) -> None:
        self._role = role

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self._role, int(time.time()) + 3600)


class AsyncIdentity(Identity):
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # type: ignore[override]
        return super().get_token(*scopes, **options)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeCosmos]:
    certificates.ensure(tmp_path, (), time.time())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    roles = ("writer", "reader", "eraser")
    tokens = {role: actions_of(json.loads((ROLES / f"cosmos-{role}-role.json").read_text())) for role in roles}
    with running(tls=tls, tokens=tokens) as one:
        yield one


async def write(server: FakeCosmos, role: str, body: bytes = b"{}") -> None:
    chain, entries = Chain("a.0.1"), []
    for n in range(3):
        sealed, chain = chain.seal(Draft(Kind.EXCHANGE, f"x{n}", f"s{n // 2}", n, {}, body, lines=["l"]))
        entries.append(sealed)
    store = CosmosStore(CosmosSettings(server.url), AsyncIdentity(role), retrying=impatient(5.0))
    try:
        await store.put(entries, [Blob("s0", "a", b"x")])
        await store.put_checkpoint("a.0.1", 3, "note")
    finally:
        await store.aclose()


async def test_the_service_works_with_create_and_read(server: FakeCosmos) -> None:
    actions = json.loads((ROLES / "cosmos-writer-role.json").read_text())["Permissions"][0]["DataActions"]
    assert [action.rpartition("/")[2] for action in actions] == ["readMetadata", "create", "read"]
    await write(server, "writer")
    await write(server, "writer")
    with pytest.raises(Conflict):
        await write(server, "writer", b"other")
    assert {"Replace", "Delete", "Upsert", "query"}.isdisjoint(server.requests)


async def test_the_service_may_not_look_for_or_remove_anything(server: FakeCosmos) -> None:
    await write(server, "writer")
    ledger = CosmosLedger(CosmosSettings(server.url), Identity("writer"))
    eraser = CosmosEraser(CosmosSettings(server.url), Identity("writer"))
    for refused in (ledger.logs, lambda: list(ledger.entries("a.0.1")), lambda: eraser.remove_blobs("s0", ["a"])):
        with pytest.raises(StoreUnavailable, match="403/5300"):
            refused()
    ledger.close()
    eraser.close()


async def test_readers_may_read_and_no_more(server: FakeCosmos) -> None:
    await write(server, "writer")
    at, reader = CosmosSettings(server.url), Identity("reader")
    ledger, archive, eraser = CosmosLedger(at, reader), CosmosArchive(at, reader), CosmosEraser(at, reader)
    assert len(list(ledger.entries("a.0.1"))) == 3
    assert ledger.logs() == ["a.0.1"]
    assert len(archive.sessions()) == 2
    with pytest.raises(StoreUnavailable, match="403/5300"):
        eraser.remove_blobs("s0", ["a"])
    with pytest.raises(StoreUnavailable, match="403/5300"):
        eraser.remove_bodies([("a.0.1", 0)])
    with pytest.raises(StoreUnavailable, match="403/5300"):
        await write(server, "reader")
    for one in (ledger, archive, eraser):
        one.close()


async def test_erasers_may_remove_and_not_write(server: FakeCosmos) -> None:
    await write(server, "writer")
    eraser = CosmosEraser(CosmosSettings(server.url), Identity("eraser"))
    assert eraser.remove_bodies([("a.0.1", 0)]) == 1
    assert eraser.remove_blobs("s0", ["a"]) == 1
    assert eraser.remove_entries("a.0.1", 1) == 1
    with pytest.raises(StoreUnavailable, match="403/5300"):
        await write(server, "eraser")
    eraser.close()


async def test_a_token_of_nobody_is_refused(server: FakeCosmos) -> None:
    with pytest.raises(StoreUnavailable, match="401"):
        await write(server, "stranger")
