"""What every store promises (`extproc.store.port`), run over each adapter."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.document import merged
from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed, WrappedKey, address_of, read_head
from extproc.recording.facts import MAX_LISTED
from extproc.store.port import Conflict, FindingSearch, Search, Store
from tests.recording_of import NOW, Exchange, Log, exchange
from tests.store import cosmos_backend, sqlite_backend
from tests.store.conformance import FAULTS, Backend

BACKENDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Backend]]] = {
    "sqlite": sqlite_backend.opened,
    "cosmos": cosmos_backend.opened,
}


@pytest.fixture(params=list(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with BACKENDS[request.param](tmp_path) as opened:
        yield opened


async def put(backend: Backend, *exchanges: Exchange, log: str = "a.0.1") -> list[Sealed]:
    """Put exchanges as entries of one log."""
    written = Log(log)
    entries = [written.exchange(*one) for one in exchanges]
    await (await backend.store()).put(entries, written.blobs)
    return entries


def long(name: str = "long") -> Exchange:
    """Return an exchange whose message is long enough to become a blob."""
    return exchange(name, messages=[{"role": "user", "content": "word " * 2000}])


def noise(seed: str, size: int) -> bytes:
    """Return bytes that nothing compresses, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


def content(document: dict[str, Any] | None) -> dict[str, Any]:
    """Return a document without its place in the log."""
    return {name: value for name, value in (document or {}).items() if name != "entry"}


def stored(backend: Backend, log: str = "a.0.1") -> list[tuple[int, bytes, str, bytes | None]]:
    return [(one.index, one.head, one.hash, one.body) for one in backend.ledger().entries(log)]


def as_put(entries: list[Sealed]) -> list[tuple[int, bytes, str, bytes | None]]:
    return [(read_head(one.head).index, one.head, one.hash, one.body) for one in entries]


# --- putting ---------------------------------------------------------------------------------------------------------


async def test_entries_come_back_byte_for_byte_in_order(backend: Backend) -> None:
    entries = await put(backend, *(exchange(f"x{n}", at=NOW - n, session=f"s{n % 3}") for n in range(9)))
    assert stored(backend) == as_put(entries)


async def test_a_store_that_nobody_wrote_to_is_empty(backend: Backend) -> None:
    await backend.store()
    ledger, archive = backend.ledger(), backend.archive()
    assert ledger.logs() == []
    assert list(ledger.entries("a.0.1")) == []
    assert ledger.checkpoints("a.0.1") == []
    assert ledger.find("x") is None
    assert ledger.blobs("s1", ["0" * 64]) == {}
    assert ledger.key("s1", "k") is None
    assert archive.sessions() == []
    assert list(archive.session("s1")) == []
    assert archive.exchange("x") is None
    assert list(archive.exchanges()) == []
    assert archive.findings() == []
    assert list(archive.lines(["f"])) == []


async def test_putting_nothing_is_fine(backend: Backend) -> None:
    await (await backend.store()).put([])
    assert backend.ledger().logs() == []


async def test_an_entry_without_a_body_and_of_any_kind_is_kept(backend: Backend) -> None:
    log = Log("a.0.1")
    drafts = [
        Draft(kind, f"id-{kind}", f"session-{kind}", 1, {"by": "issuer#carol"}, body)
        for kind in Kind
        for body in (b"", None)
    ]
    entries = [log.seal(draft) for draft in drafts if draft.kind is not Kind.EXCHANGE]
    await (await backend.store()).put(entries)
    assert stored(backend) == as_put(entries)
    assert list(backend.archive().exchanges()) == []


async def test_many_entries_of_many_sessions_and_logs_are_put_at_once(backend: Backend) -> None:
    logs = [Log(f"{name}.0.1") for name in "abc"]
    entries = [log.exchange(*exchange(f"x{n}", session=f"s{n % 30}")) for n in range(300) for log in [logs[n % 3]]]
    await (await backend.store()).put(entries, [blob for log in logs for blob in log.blobs])
    assert backend.ledger().logs() == ["a.0.1", "b.0.1", "c.0.1"]
    for number, log in enumerate("abc"):
        assert stored(backend, f"{log}.0.1") == as_put(entries[number::3])


async def test_what_is_there_may_be_put_again_alone_or_with_new(backend: Backend) -> None:
    log, store = Log("a.0.1"), await backend.store()
    entries = [log.exchange(*long(f"x{n}"), lines=[f"l{n}"]) for n in range(6)]
    key = WrappedKey("k1", "s1", b"wrapped")
    await store.put(entries[:4], log.blobs, [key])
    await store.put(entries[:4], log.blobs, [key])
    await store.put(entries[2:], log.blobs, [key])
    await store.put_checkpoint("a.0.1", 6, "note")
    await store.put_checkpoint("a.0.1", 6, "note")
    assert stored(backend) == as_put(entries)
    assert backend.ledger().checkpoints("a.0.1") == ["note"]
    assert len(list(backend.archive().exchanges())) == 6
    assert sorted(backend.archive().lines([f"l{n}" for n in range(6)])) == [(f"l{n}", f"x{n}") for n in range(6)]


async def test_two_writers_may_put_the_same_and_different_logs(backend: Backend) -> None:
    first, second = await backend.store(), await backend.store()
    logs = [Log("a.0.1"), Log("b.0.1")]
    entries = [[log.exchange(*exchange(f"{n}-{m}")) for m in range(5)] for n, log in enumerate(logs)]
    await first.put([*entries[0], *entries[1][:2]], [*logs[0].blobs, *logs[1].blobs])
    await second.put([*entries[1], *entries[0][:2]], [*logs[0].blobs, *logs[1].blobs])
    assert stored(backend, "a.0.1") == as_put(entries[0])
    assert stored(backend, "b.0.1") == as_put(entries[1])


@pytest.mark.parametrize("size", [100, 300_000, 3_000_000])
async def test_bodies_and_blobs_of_any_bytes_and_size_come_back(backend: Backend, size: int) -> None:
    data = noise(str(size), size)
    blob = Blob("s1", address_of(data), data)
    log = Log("a.0.1")
    entries = [log.seal(Draft(Kind.EXCHANGE, "x", "s1", 1, {}, data[::-1], [blob.address])), log.exchange(*long())]
    await (await backend.store()).put(entries, [blob, *log.blobs])
    assert stored(backend) == as_put(entries)
    assert backend.ledger().blobs("s1", [blob.address, "0" * 64]) == {blob.address: data}


@pytest.mark.parametrize(
    "name", ["a,b", "q\"uote's", "日本語 🙂", "new\nline", "nul\0inside", "[]", "null", "%25/..?#"]
)
async def test_names_and_texts_of_any_kind_come_back_as_they_were(backend: Backend, name: str) -> None:
    odd = exchange("x", user=name, groups=[name], model=name, repository=name, answered=name, messages=[name])
    await put(backend, odd, exchange("y", session="s2"))
    archive = backend.archive()
    assert content(archive.exchange("x")) == merged(*odd)
    (row,) = archive.sessions(
        Search(user=name, principal=f"issuer#{name}", group=name, model=name, repository=name, text=name)
    )
    assert (row.id, row.user, row.principal, row.models) == ("s1", name, f"issuer#{name}", [name])


# --- conflicts -------------------------------------------------------------------------------------------------------


async def test_another_entry_in_the_same_place_is_a_conflict_and_the_rest_is_taken(backend: Backend) -> None:
    store = await backend.store()
    (original,) = await put(backend, exchange("x"))
    log = Log("a.0.1")
    entries = [log.exchange(*exchange(name)) for name in ("forged", "next", "last")]
    with pytest.raises(Conflict) as caught:
        await store.put(entries, log.blobs)
    assert "a.0.1" in caught.value.what
    assert "0" in caught.value.what
    assert stored(backend) == as_put([original, *entries[1:]])
    assert backend.archive().exchange("forged") is None


async def test_other_bytes_under_the_address_of_a_blob_are_a_conflict_and_the_rest_is_taken(backend: Backend) -> None:
    store, log = await backend.store(), Log("a.0.1")
    entry = log.exchange(*long())
    (blob,) = log.blobs
    await store.put([], [Blob(blob.session, blob.address, b"forged")])
    with pytest.raises(Conflict) as caught:
        await store.put([entry], log.blobs, [WrappedKey("k", "s1", b"w")])
    assert blob.address in caught.value.what
    assert stored(backend) == as_put([entry])
    assert backend.ledger().blobs("s1", [blob.address]) == {blob.address: b"forged"}
    assert backend.ledger().key("s1", "k") == WrappedKey("k", "s1", b"w")


async def test_another_key_under_the_same_id_is_a_conflict_and_the_rest_is_taken(backend: Backend) -> None:
    store, log = await backend.store(), Log("a.0.1")
    entry = log.exchange(*exchange("x"))
    await store.put([], keys=[WrappedKey("k", "s1", b"one")])
    with pytest.raises(Conflict):
        await store.put([entry], keys=[WrappedKey("k", "s1", b"two"), WrappedKey("k", "s2", b"three")])
    assert stored(backend) == as_put([entry])
    assert backend.ledger().key("s1", "k") == WrappedKey("k", "s1", b"one")
    assert backend.ledger().key("s2", "k") == WrappedKey("k", "s2", b"three")


async def test_the_newest_checkpoints_are_those_of_the_largest_trees(backend: Backend) -> None:
    store = await backend.store()
    for size in (9, 100, 10):
        await store.put_checkpoint("a.0.1", size, f"of {size}")
    ledger = backend.ledger()
    assert ledger.checkpoints("a.0.1") == ["of 9", "of 10", "of 100"]
    assert ledger.checkpoints("a.0.1", newest=1) == ["of 100"]
    assert ledger.checkpoints("a.0.1", newest=2) == ["of 10", "of 100"]
    assert ledger.checkpoints("other.0.1", newest=1) == []


async def test_another_checkpoint_of_the_same_size_is_a_conflict(backend: Backend) -> None:
    store = await backend.store()
    await store.put_checkpoint("a.0.1", 3, "one")
    with pytest.raises(Conflict) as caught:
        await store.put_checkpoint("a.0.1", 3, "two")
    assert "a.0.1" in caught.value.what
    await store.put_checkpoint("b.0.1", 3, "two")
    assert backend.ledger().checkpoints("a.0.1") == ["one"]


# --- faults ----------------------------------------------------------------------------------------------------------


class Payload:
    """What one call puts, large enough to need room, and how to see that it is there exactly once."""

    def __init__(self, what: str) -> None:
        self.what = what
        data = noise(what, 60_000)
        self.note = data.hex()
        blob = Blob("s1", address_of(data), data)
        body, parts = (data[::-1], []) if what == "entries" else (b"small", [blob.address])
        drafts = [Draft(Kind.EXCHANGE, f"x{n}", "s1", n, {}, body, parts, lines=[f"l{n}"]) for n in range(3)]
        chain, self.entries = Chain("a.0.1"), []
        for draft in drafts:
            sealed, chain = chain.seal(draft)
            self.entries.append(sealed)
        self.blobs = [] if what == "entries" else [blob]

    async def put(self, store: Store) -> None:
        if self.what == "checkpoint":
            await store.put_checkpoint("a.0.1", 3, self.note)
        else:
            await store.put(self.entries, self.blobs, [WrappedKey("k", "s1", b"w")])

    def is_whole(self, backend: Backend) -> bool:
        ledger = backend.ledger()
        if self.what == "checkpoint":
            return ledger.checkpoints("a.0.1") == [self.note]
        addresses = [one.address for one in self.blobs]
        return (
            stored(backend) == as_put(self.entries)
            and ledger.blobs("s1", addresses) == {one.address: one.data for one in self.blobs}
            and ledger.key("s1", "k") == WrappedKey("k", "s1", b"w")
            and list(backend.archive().lines(["l1"])) == [("l1", "x1")]
        )


async def fails(call: Coroutine[Any, Any, None]) -> bool:
    try:
        await call
    except StoreUnavailable:
        return True
    return False


@pytest.mark.parametrize("what", ["entries", "blobs", "checkpoint"])
@pytest.mark.parametrize(
    ("backend", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults], indirect=["backend"]
)
async def test_after_a_fault_the_same_call_makes_all_whole(
    backend: Backend, fault: str, what: str, request: pytest.FixtureRequest
) -> None:
    must_fail = next(faults[fault] for name, faults in FAULTS.items() if f"{name}-" in request.node.name)
    store, payload, before = await backend.store(), Payload(what), exchange("before")
    await put(backend, before, log="b.0.1")
    with backend.fault(store, fault):
        failed = await fails(payload.put(store))
    assert failed == must_fail
    # It never says that something was taken which was not.
    assert failed or payload.is_whole(backend)
    await payload.put(store)
    assert payload.is_whole(backend)
    assert content(backend.archive().exchange("before")) == merged(*before)


# --- proving ---------------------------------------------------------------------------------------------------------


async def test_a_ledger_reads_from_an_index_on_and_without_bodies(backend: Backend) -> None:
    entries = await put(backend, *(exchange(f"x{n}") for n in range(5)))
    found = list(backend.ledger().entries("a.0.1", 3, bodies=False))
    assert [(one.log, one.index, one.hash, one.body) for one in found] == [
        ("a.0.1", n, entries[n].hash, None) for n in (3, 4)
    ]
    assert list(backend.ledger().entries("a.0.1", 5)) == []


async def test_a_ledger_finds_the_entry_of_an_exchange_with_its_lines(backend: Backend) -> None:
    log = Log("a.0.1")
    entries = [log.exchange(*exchange(f"x{n}"), lines=[f"l{n}", "both"]) for n in range(2)]
    access = log.seal(Draft(Kind.ACCESS, "y", "access", 1, {}))
    await (await backend.store()).put([*entries, access])
    found = backend.ledger().find("x1")
    assert found is not None
    assert (found.log, found.index, found.head, found.body) == ("a.0.1", 1, entries[1].head, entries[1].body)
    assert sorted(found.lines) == ["both", "l1"]
    assert backend.ledger().find("y") is None


async def test_logs_are_named_that_have_an_entry_or_only_a_checkpoint(backend: Backend) -> None:
    await put(backend, exchange("x"), log="b.0.1")
    store = await backend.store()
    await store.put_checkpoint("a.0.1", 10, "a note")
    await store.put_checkpoint("b.0.1", 1, "another")
    assert backend.ledger().logs() == ["a.0.1", "b.0.1"]


async def test_checkpoints_come_smallest_first_as_numbers(backend: Backend) -> None:
    store = await backend.store()
    for size in (100, 9, 10, 0):
        await store.put_checkpoint("a.0.1", size, f"origin\n{size}\n\n— sig\n")
    assert backend.ledger().checkpoints("a.0.1") == [f"origin\n{size}\n\n— sig\n" for size in (0, 9, 10, 100)]


async def test_blobs_and_keys_belong_to_their_session(backend: Backend) -> None:
    blob = Blob("s1", address_of(b"data"), b"data")
    await (await backend.store()).put([], [blob], [WrappedKey("k", "s1", b"w")])
    assert backend.ledger().blobs("s2", [blob.address]) == {}
    assert backend.ledger().key("s2", "k") is None
    assert backend.ledger().key("s1", "other") is None


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_document_is_what_was_recorded_with_its_blobs(backend: Backend) -> None:
    first, second = long("x0"), long("x1")
    await put(backend, first, second)
    assert content(backend.archive().exchange("x0")) == merged(*first)
    assert content(backend.archive().exchange("x1")) == merged(*second)


async def test_a_session_is_read_in_the_order_in_which_exchanges_were_opened(backend: Backend) -> None:
    made = [exchange(name, at=at) for name, at in (("c", 3.0), ("a", 1.0), ("b", 2.0))]
    await put(backend, *made, exchange("other", session="s2"))
    assert [content(one) for one in backend.archive().session("s1")] == [merged(*made[n]) for n in (1, 2, 0)]


async def test_the_list_of_sessions_sums_them_up_newest_first(backend: Backend) -> None:
    await put(
        backend,
        exchange("a", at=10.0),
        exchange("b", at=20.0, model="claude", outcome="denied"),
        exchange("c", at=30.0, model=None),
        exchange("d", session="old", at=5.0, user=None),
    )
    newest, oldest = backend.archive().sessions()
    assert newest.id == "s1"
    assert (newest.user, newest.principal, newest.client) == ("alice", "issuer#alice", "copilot/1.0")
    assert (newest.started_at, newest.ended_at, newest.exchanges) == (10.0, 31.0, 3)
    assert newest.models == ["claude", "gpt-5"]
    assert newest.outcomes == {"completed": 2, "denied": 1}
    assert (oldest.id, oldest.user, oldest.principal) == ("old", None, None)


FOUND = {
    "rule": "npm-token",
    "direction": "prompt",
    "where": "messages[0].content",
    "offset": 4,
    "action": "mask",
    "at": 1.0,
    "fingerprint": "f" * 32,
}
LIBRARY = [
    exchange("a", session="s1", at=NOW, findings=[FOUND, {**FOUND, "rule": "aws-key", "fingerprint": "a" * 32}]),
    exchange("b", session="s2", at=NOW + 10, user="bob", groups=["developers", "ops"], model="claude"),
    exchange("c", session="s3", at=NOW + 20, repository="acme/[web]", paths=["infra/prod.tf"], outcome="denied"),
    exchange("d", session="s1", at=NOW + 30, answered="Grüß GOTT", findings=[{**FOUND, "action": "block"}]),
    exchange("e", session="s4", at=NOW + 40, user="bob", messages=[{"content": ["x" * 5000, {"text": "Hidden 50%"}]}]),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "abcde"),
        ({"user": "bob"}, "be"),
        ({"user": "issuer#alice"}, "acd"),
        ({"principal": "issuer#alice"}, "acd"),
        ({"principal": "alice"}, ""),
        ({"principal": "issuer#alice", "user": "alice"}, "acd"),
        ({"principal": "issuer#alice", "user": "bob"}, ""),
        ({"principal": "issuer#alice", "session": "s1", "since": NOW + 1}, "d"),
        ({"user": "bob' OR 1=1 --"}, ""),
        ({"user": "bo*"}, ""),
        ({"group": "ops"}, "b"),
        ({"group": "developers"}, "abcde"),
        ({"group": "dev"}, ""),
        ({"model": "claude"}, "b"),
        ({"outcome": "denied"}, "c"),
        ({"repository": "acme/*"}, "abcde"),
        ({"repository": "acme/[web]"}, "c"),
        ({"repository": "acme"}, ""),
        ({"path": "infra/*"}, "c"),
        ({"path": "*.tf"}, "c"),
        ({"path": "infra"}, ""),
        ({"finding": "aws-*"}, "a"),
        ({"finding": "npm-token"}, "ad"),
        ({"session": "s1"}, "ad"),
        ({"text": "grüß gott"}, "d"),
        ({"text": "HIDDEN 50%"}, "e"),
        ({"text": "say hello", "user": "bob"}, "b"),
        ({"text": "nowhere"}, ""),
        ({"text": "copilot"}, ""),
        ({"since": NOW + 10}, "bcde"),
        ({"until": NOW + 10}, "a"),
        ({"since": NOW + 10, "until": NOW + 30}, "bc"),
        ({"user": "alice", "session": "s1", "since": NOW + 1}, "d"),
        ({"user": "alice", "limit": 2}, "ac"),
        ({"limit": 3}, "abc"),
    ],
)
async def test_exchanges_are_found_oldest_first(backend: Backend, wanted: dict[str, Any], expected: str) -> None:
    await put(backend, *reversed(LIBRARY))
    search = Search(**{name: value for name, value in wanted.items() if name != "limit"})
    found = backend.archive().exchanges(search, limit=wanted.get("limit"))
    assert "".join(one["id"] for one in found) == expected


@pytest.mark.parametrize(
    ("wanted", "limit", "expected"),
    [
        (Search(), 100, ["s4", "s1", "s3", "s2"]),
        (Search(), 2, ["s4", "s1"]),
        (Search(user="alice"), 100, ["s1", "s3"]),
        (Search(principal="issuer#alice"), 100, ["s1", "s3"]),
        (Search(principal="issuer#bob"), 100, ["s4", "s2"]),
        (Search(principal="bob"), 100, []),
        (Search(text="hello"), 1, ["s4"]),
        (Search(finding="npm*"), 100, ["s1"]),
        (Search(text="nowhere"), 100, []),
    ],
)
async def test_sessions_that_have_an_exchange_that_fits_are_listed(
    backend: Backend, wanted: Search, limit: int, expected: list[str]
) -> None:
    await put(backend, *LIBRARY[:4], exchange("e", session="s4", at=NOW + 40, user="bob"))
    assert [row.id for row in backend.archive().sessions(wanted, limit=limit)] == expected


async def test_the_list_of_sessions_sums_up_repositories_tokens_findings_and_approvals(backend: Backend) -> None:
    many = exchange("a", repository="acme/web", findings=[FOUND] * (MAX_LISTED + 3))
    used = exchange("b", at=NOW + 1, findings=[FOUND])
    used[1]["response"]["usage"] = {"input_tokens": 30, "output_tokens": 4}
    used[1]["approvals"] = [{"id": "approval-1"}, {"id": "approval-2"}]
    more = exchange("c", at=NOW + 2, repository=None)
    more[1]["response"]["usage"] = {"input_tokens": 7, "output_tokens": None}
    await put(backend, many, used, more)
    (row,) = backend.archive().sessions()
    assert (row.repositories, row.input_tokens, row.output_tokens) == (["acme/app", "acme/web"], 37, 4)
    assert (row.findings, row.approvals) == (MAX_LISTED + 4, 2)


async def test_a_session_is_summed_up_whole_if_one_exchange_fits(backend: Backend) -> None:
    await put(backend, *LIBRARY)
    (row,) = backend.archive().sessions(Search(finding="aws-key"))
    assert (row.id, row.exchanges, row.started_at, row.ended_at) == ("s1", 2, NOW, NOW + 31)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["d-0", "a-1", "a-0"]),
        ({"rule": "aws-key"}, ["a-1"]),
        ({"rule": "*-*"}, ["d-0", "a-1", "a-0"]),
        ({"rule": "aws"}, []),
        ({"user": "bob"}, []),
        ({"user": "issuer#alice"}, ["d-0", "a-1", "a-0"]),
        ({"principal": "issuer#alice"}, ["d-0", "a-1", "a-0"]),
        ({"principal": "alice"}, []),
        ({"principal": "issuer#alice", "user": "bob"}, []),
        ({"direction": "answer"}, []),
        ({"action": "block"}, ["d-0"]),
        ({"session": "s1"}, ["d-0", "a-1", "a-0"]),
        ({"fingerprint": "f" * 32}, ["d-0", "a-0"]),
        ({"since": NOW + 1}, ["d-0"]),
        ({"until": NOW + 30}, ["a-1", "a-0"]),
        ({"limit": 2}, ["d-0", "a-1"]),
    ],
)
async def test_findings_are_found_newest_first(backend: Backend, wanted: dict[str, Any], expected: list[str]) -> None:
    await put(backend, *LIBRARY)
    limit = wanted.get("limit", 100)
    search = FindingSearch(**{name: value for name, value in wanted.items() if name != "limit"})
    assert [row.id for row in backend.archive().findings(search, limit=limit)] == expected


async def test_a_finding_has_the_facts_of_its_exchange(backend: Backend) -> None:
    await put(backend, *LIBRARY)
    row = backend.archive().findings()[0]
    assert (row.exchange, row.session, row.opened_at, row.user, row.principal) == (
        *("d", "s1", NOW + 30, "alice", "issuer#alice"),
    )
    assert (row.model, row.repository) == ("gpt-5", "acme/app")
    assert {name: getattr(row, name) for name in FOUND} == {**FOUND, "action": "block"}


async def test_exchanges_are_found_by_the_lines_they_proposed(backend: Backend) -> None:
    log = Log("a.0.1")
    entries = [log.exchange(*exchange(f"x{n}"), lines=[f"l{n}", "both", "it's"]) for n in range(2)]
    await (await backend.store()).put(entries)
    found = sorted(backend.archive().lines(["l1", "both", "unknown"]))
    assert found == [("both", "x0"), ("both", "x1"), ("l1", "x1")]
    assert len(list(backend.archive().lines([f"l{n}" for n in range(20_000)]))) == 2


# --- removing --------------------------------------------------------------------------------------------------------


async def test_a_body_is_removed_with_its_lines_and_its_head_stays(backend: Backend) -> None:
    log = Log("a.0.1")
    entries = [log.exchange(*exchange(f"x{n}"), lines=["both"]) for n in range(3)]
    await (await backend.store()).put(entries)
    assert backend.eraser().remove_bodies([("a.0.1", 1), ("a.0.1", 7), ("b.0.1", 0)]) == 1
    assert backend.eraser().remove_bodies([("a.0.1", 1)]) == 0
    assert stored(backend) == as_put([entries[0], Sealed(entries[1].head, entries[1].hash, None), entries[2]])
    assert sorted(backend.archive().lines(["both"])) == [("both", "x0"), ("both", "x2")]
    document = backend.archive().exchange("x1")
    assert document is not None
    assert {"id", "session", "opened_at", "facts", "removed"} <= document.keys()
    assert "request" not in document
    assert [one["id"] for one in backend.archive().exchanges(Search(user="alice"))] == ["x0", "x1", "x2"]
    assert [one["id"] for one in backend.archive().exchanges(Search(text="hello"))] == ["x0", "x2"]


async def test_blobs_and_keys_are_removed_from_their_session_only(backend: Backend) -> None:
    blobs = [Blob(session, address_of(data), data) for session in ("s1", "s2") for data in (b"one", b"two")]
    keys = [WrappedKey("k", session, b"w") for session in ("s1", "s2")]
    await (await backend.store()).put([], blobs, keys)
    one, two = blobs[0].address, blobs[1].address
    assert backend.eraser().remove_blobs("s1", [one, "0" * 64]) == 1
    assert backend.eraser().remove_blobs("s1", [one]) == 0
    assert backend.eraser().remove_keys("s1") == 1
    assert backend.eraser().remove_keys("s1") == 0
    assert backend.ledger().blobs("s1", [one, two]) == {two: b"two"}
    assert backend.ledger().blobs("s2", [one, two]) == {one: b"one", two: b"two"}
    assert (backend.ledger().key("s1", "k"), backend.ledger().key("s2", "k")) == (None, keys[1])


async def test_the_beginning_of_a_log_is_removed_and_nothing_else(backend: Backend) -> None:
    finding = [FOUND]
    entries = await put(backend, *(exchange(f"x{n}", findings=finding) for n in range(4)))
    other = await put(backend, exchange("y"), log="b.0.1")
    await (await backend.store()).put_checkpoint("a.0.1", 4, "note")
    assert backend.eraser().remove_entries("a.0.1", 3) == 3
    assert backend.eraser().remove_entries("a.0.1", 3) == 0
    assert stored(backend) == as_put(entries)[3:]
    assert stored(backend, "b.0.1") == as_put(other)
    assert [one["id"] for one in backend.archive().exchanges()] == ["x3", "y"]
    assert [row.exchange for row in backend.archive().findings()] == ["x3"]
    assert backend.ledger().checkpoints("a.0.1") == ["note"]


async def test_an_entry_whose_body_was_removed_may_be_put_again_and_stays_without(backend: Backend) -> None:
    (entry,) = await put(backend, exchange("x"))
    backend.eraser().remove_bodies([("a.0.1", 0)])
    await (await backend.store()).put([entry])
    assert stored(backend) == as_put([Sealed(entry.head, entry.hash, None)])


async def test_writers_go_on_after_something_was_removed(backend: Backend) -> None:
    store, log = await backend.store(), Log("a.0.1")
    entries = [log.exchange(*long(f"x{n}")) for n in range(2)]
    await store.put(entries[:1], log.blobs)
    backend.eraser().remove_bodies([("a.0.1", 0)])
    await store.put(entries[1:])
    assert content(backend.archive().exchange("x1")) == merged(*long("x1"))
