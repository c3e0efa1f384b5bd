"""What only this adapter has; the contract is tested in test_conformance.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.document import merged
from extproc.store import cosmos_archive
from extproc.store.cosmos_archive import CosmosArchive
from extproc.store.cosmos_ledger import CosmosLedger
from extproc.store.cosmos_store import CosmosStore
from extproc.store.port import FindingSearch, Search
from tests.cosmos.fault import Fault
from tests.cosmos.running import running, settings
from tests.cosmos.server import FakeCosmos
from tests.recording_of import Exchange, Log, exchange


@pytest.fixture
def server() -> Iterator[FakeCosmos]:
    with running() as one:
        yield one


@pytest.fixture
def archive(server: FakeCosmos) -> Iterator[CosmosArchive]:
    one = CosmosArchive(settings(server))
    yield one
    one.close()


async def record(server: FakeCosmos, *exchanges: Exchange) -> None:
    log, store = Log("a.0.1"), CosmosStore(settings(server))
    entries = [log.exchange(*one, lines=["l"]) for one in exchanges]
    await store.put(entries, log.blobs)
    await store.aclose()


def turns(count: int) -> list[Exchange]:
    """Return a session whose every turn repeats what was said before."""
    said = [{"role": "user", "content": f"turn {n} " + "word " * 500} for n in range(count)]
    return [exchange(f"x{n}", at=float(n), messages=said[: n + 1]) for n in range(count)]


async def test_all_pages_of_all_partitions_are_read_in_order(server: FakeCosmos, archive: CosmosArchive) -> None:
    await record(server, *(exchange(f"x{n}", session=f"s{n % 7}", at=float(n)) for n in range(40)))
    server.page_items = 3
    assert [one["id"] for one in archive.exchanges()] == [f"x{n}" for n in range(40)]
    assert [row.id for row in archive.sessions(limit=3)] == ["s4", "s3", "s2"]
    assert sorted(archive.lines(["l"])) == sorted(("l", f"x{n}") for n in range(40))


async def test_blobs_of_a_session_are_read_once(server: FakeCosmos, archive: CosmosArchive) -> None:
    made = turns(12)
    await record(server, *made)
    assert [{**one, "entry": None} for one in archive.session("s1")] == [
        {**merged(*one), "entry": None} for one in made
    ]
    # One query for the exchanges, and one for each turn's own blob.
    assert server.requests["query"] <= 1 + 12
    assert server.requests.get("plan") is None


async def test_blobs_that_are_not_kept_are_read_again(
    server: FakeCosmos, archive: CosmosArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosmos_archive, "KEPT_BLOB_BYTES", 5000)
    made = turns(8)
    await record(server, *made)
    assert [{**one, "entry": None} for one in archive.session("s1")] == [
        {**merged(*one), "entry": None} for one in made
    ]


async def test_conditions_are_the_services_to_decide(server: FakeCosmos, archive: CosmosArchive) -> None:
    await record(server, *(exchange(f"x{n}", session=f"s{n}", user=f"u{n}") for n in range(20)))
    server.page_items = 1
    assert [row.id for row in archive.sessions(Search(user="u7"))] == ["s7"]
    # One page for each partition, and one for the session: the other exchanges were not sent.
    assert server.requests["query"] <= 5


async def test_a_store_that_fails_in_the_middle_is_no_end_of_what_there_is(
    server: FakeCosmos, archive: CosmosArchive
) -> None:
    await record(server, *(exchange(f"x{n}") for n in range(6)))
    server.page_items = 2
    found = archive.session("s1")
    next(found)
    server.faults.append(Fault("query", status=403))
    with pytest.raises(StoreUnavailable, match="answered 403/0"):
        list(found)


RECORDING = "dbs/extproc/colls/recording"


async def test_entries_whose_place_or_time_somebody_made_a_text_do_no_harm(
    server: FakeCosmos, archive: CosmosArchive
) -> None:
    await record(server, *(exchange(f"x{n}", session=f"s{n}") for n in range(6)))
    container = server.account.containers[RECORDING]
    for name, value in (("at", "now"), ("index", "first")):
        item = next(one for one in container.items.values() if one["entry"] == {"at": "x1", "index": "x2"}[name])
        item[name] = value
    ledger = CosmosLedger(settings(server))
    assert [one.index for one in ledger.entries("a.0.1")] == [0, 1, 3, 4, 5]
    ledger.close()
    assert [row.id for row in archive.sessions(Search(session="s1"))] == []
    assert archive.findings(FindingSearch(rule="r")) == []


@pytest.mark.parametrize("place", [{"index": -1}, {"index": "1"}, {"log": 5}], ids=str)
async def test_what_a_ledger_does_not_have_is_not_shown(
    server: FakeCosmos, archive: CosmosArchive, place: dict[str, Any]
) -> None:
    await record(server, exchange("x1"))
    container = server.account.containers[RECORDING]
    next(one for one in container.items.values() if one["type"] == "entry").update(place)
    assert list(archive.exchanges()) == []
    assert archive.exchange("x1") is None


async def test_an_exchange_that_cannot_be_read_says_how_to_find_out_more(
    server: FakeCosmos, archive: CosmosArchive
) -> None:
    await record(server, exchange("x1"))
    container = server.account.containers[RECORDING]
    next(one for one in container.items.values() if one["type"] == "entry")["facts"]["closed_at"] = "now"
    with pytest.raises(StoreUnavailable, match="extproc verify"):
        archive.sessions()


async def test_a_server_that_is_away_is_said_to_be_and_found_again(server: FakeCosmos, archive: CosmosArchive) -> None:
    server.faults.append(Fault("metadata", status=503, times=None))
    with pytest.raises(StoreUnavailable, match="answered 503"):
        archive.sessions()
    server.faults.clear()
    assert archive.sessions() == []
