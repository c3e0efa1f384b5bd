from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Chain, Draft, Kind, WrappedKey
from extproc.recording.envelope import Envelope
from extproc.store.port import FindingSearch, Search, SessionRow
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_index import SqliteIndex
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import NOW, Exchange, exchange, record

ENVELOPE = Envelope(lambda secret: secret[::-1], lambda wrapped: wrapped[::-1], lambda count: bytes(range(count)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[SqliteIndex]:
    index = SqliteIndex(path, path.with_name("search.db"), **options)
    try:
        yield index
    finally:
        index.close()


def ids(index: SqliteIndex, search: Search = Search()) -> list[str]:  # noqa: B008 - frozen
    return [row.id for row in index.sessions(search).rows]


def all_rows(index: SqliteIndex, search: Search, limit: int) -> list[SessionRow]:
    rows, after = [], None
    while True:
        page = index.sessions(search, limit=limit, after=after)
        rows += page.rows
        after = page.after
        if after is None:
            return rows


# --- the same as the archive -----------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "a*", "é\n"])
some_paths = st.lists(st.sampled_from(["infra/a.tf", "infra/b.tf", "src/x.py", "[x]"]), max_size=2, unique=True)
finding = {"direction": "prompt", "where": "w", "offset": 1, "action": "mask", "at": 1.0, "fingerprint": "f" * 32}
some_findings = st.lists(
    st.sampled_from(["npm-token", "aws-key", "aws-id"]).map(lambda rule: {"rule": rule, **finding}), max_size=2
)
recorded = st.lists(
    st.fixed_dictionaries(
        {
            "session": st.sampled_from(["s1", "s2", "s3", "s4"]),
            "at": st.integers(0, 6).map(lambda seconds: NOW + seconds),
            "user": st.none() | names,
            "groups": st.lists(names, max_size=2, unique=True),
            "model": st.none() | names,
            "outcome": st.sampled_from(["completed", "denied"]),
            "repository": st.none() | st.sampled_from(["acme/app", "acme/web", "other"]),
            "paths": some_paths,
            "findings": some_findings,
        }
    ),
    max_size=14,
)
patterns = st.sampled_from(
    ["*", "", "a*", "*/*", "acme/*", "*.tf", "infra/*", "*a*", "[x]", "aws-*", "other", "acme/app"]
)
times = st.integers(-1, 7).map(lambda seconds: NOW + seconds)
searches = st.builds(
    Search,
    user=st.none() | names | st.just("issuer#a"),
    group=st.none() | names,
    model=st.none() | names,
    outcome=st.none() | st.sampled_from(["completed", "denied", "failed"]),
    repository=st.none() | patterns,
    path=st.none() | patterns,
    finding=st.none() | patterns,
    session=st.none() | st.sampled_from(["s1", "s2", "s9"]),
    since=st.none() | times,
    until=st.none() | times,
    principal=st.none() | st.sampled_from(["issuer#a", "issuer#b"]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(recorded, st.lists(searches, min_size=1, max_size=8), st.integers(1, 3), st.sampled_from([0, 20_000]))
def test_whatever_is_searched_for_the_sessions_are_those_of_the_archive(
    tmp_path_factory: pytest.TempPathFactory, made: list[dict[str, Any]], wanted: list[Search], limit: int, few: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "record.db"
    asyncio.run(record(path, [exchange(f"x{n}", **one) for n, one in enumerate(made)]))
    archive = SqliteArchive(path)
    with pytest.MonkeyPatch.context() as patch, opened(path) as index:
        # With 0 nothing is few: exchanges are looked through, and their paths one by one.
        patch.setattr("extproc.store.sqlite_index_search.FEW", few)
        patch.setattr("extproc.store.sqlite_index_wanted.MANY_ELEMENTS", few)
        for search in [Search(), *wanted]:
            assert all_rows(index, search, limit) == archive.sessions(search, limit=1000)
            found = FindingSearch(rule=search.finding, user=search.user, principal=search.principal, since=search.since)
            assert {row.id for row in index.findings(found).rows} == {row.id for row in archive.findings(found)}


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [Search(), Search(user="alice"), Search(model="gpt-5"), Search(text="hello")])
async def test_no_session_moves_between_pages_while_new_exchanges_arrive(path: Path, search: Search) -> None:
    await record(path, [exchange(f"{n:02}", session=f"s{n:02}", at=NOW + n) for n in range(20)])
    with opened(path) as index:
        before = ids(index, search)
        seen, after = [], None
        for turn in range(10):
            page = index.sessions(search, limit=3, after=after)
            seen += [row.id for row in page.rows]
            after = page.after
            if after is None:
                break
            # One session of a later page, one of an earlier one, and a new one.
            more = [
                exchange(f"more {turn} {n}", session=name, at=NOW + 100 + turn)
                for n, name in enumerate(("s03", "s19", f"new {turn}"))
            ]
            await record(path, more, log=f"more.{turn}.1")
        assert seen == before


async def test_findings_do_not_move_between_pages_either(path: Path) -> None:
    one = {"rule": "npm-token", **finding}
    await record(path, [exchange(f"{n:02}", at=NOW + n, findings=[one, one]) for n in range(5)])
    with opened(path) as index:
        before = [row.id for row in index.findings().rows]
        page = index.findings(limit=3)
        await record(path, [exchange("new", at=NOW + 9, findings=[one])], log="more.0.1")
        rest = index.findings(after=page.after, limit=7)
    assert [row.id for row in page.rows + rest.rows] == before


async def test_very_many_exchanges_of_the_same_microsecond_are_all_there(path: Path) -> None:
    await record(path, [exchange(f"{n:04}", session=f"s{n % 3}") for n in range(1500)])
    with opened(path) as index:
        assert [row.exchanges for row in index.sessions().rows] == [500] * 3
        assert index.sessions(Search(since=NOW, until=NOW + 1)).rows == index.sessions().rows


async def test_times_beyond_all_times_are_fine(path: Path) -> None:
    await record(path, [exchange("x")])
    with opened(path) as index:
        assert ids(index, Search(since=-1e300, until=1e300)) == ["s1"]
        assert ids(index, Search(since=float("inf"))) == ids(index, Search(until=float("-inf"))) == []


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("déployer le cluster", True),
        ("DEPLOYER", True),
        ("le clust", True),
        ("cluster le", False),
        ("lus", False),
        ("clus", False),  # an unfinished word has at least five characters
        ("cluster, today!", True),
        ("the answer is 42", True),
        ("why do they ask", True),
        ("print_hello", True),
        ("import os print", True),
        ("earlier question", False),
        ("user", False),
        ("", False),
        (" ", False),
        ('"', False),
        ('" OR *', False),
        ('cluster" OR "nothing', False),
        ("cluster OR nothing", False),
        ("said : cluster", False),
        ("cluster\0", True),
        ("\0", False),
        ("😀", False),
        ("🙂 cluster", True),
        ("日本語", True),
        ("\ud800", False),
        ("clust*", False),
        ("word " * 10_000, False),
        ("NEAR(le cluster, 5)", False),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "backslashreplace").decode(),
)
@pytest.mark.parametrize("user", [None, "alice"])
async def test_text_is_found_as_words_in_a_row_whatever_they_are(
    path: Path, text: str, user: str | None, *, found: bool
) -> None:
    call = {"id": "user", "name": "edit", "arguments": '{"new": "def print_hello():\\nimport os\\nprint(1)"}'}
    messages = [
        {"role": "user", "content": "an earlier question"},
        {"role": "assistant", "content": "an earlier answer"},
        {"role": "user", "content": [{"type": "text", "text": "Déployer le cluster today? 日本語 🙂 cluster"}]},
    ]
    made = exchange("x", messages=messages, answered="The answer is 42.", findings=[])
    made[1]["response"].update(reasoning="Why do they ask?", tool_calls=[call])
    await record(path, [made, exchange("y", session="s2", user="bob")])
    with opened(path) as index:
        assert ids(index, Search(text=text, user=user)) == (["s1"] if found else [])


async def test_a_word_that_very_many_say_is_not_looked_for_as_the_beginning_of_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["deploy it", "deploy that", "now deploy", "a deployment", "deployments", "say deploy now"]
    await record(path, [exchange(f"{n}", session=f"s{n}", answered=one, at=NOW + n) for n, one in enumerate(said)])
    with opened(path) as index:
        assert ids(index, Search(text="deploy")) == ["s5", "s4", "s3", "s2", "s1", "s0"]
        monkeypatch.setattr("extproc.store.sqlite_index_wanted.COMMON", 4)
        assert ids(index, Search(text="deploy")) == ["s5", "s2", "s1", "s0"]
        assert ids(index, Search(text="deploym")) == ["s4", "s3"]
        monkeypatch.setattr("extproc.store.sqlite_index_wanted.COMMON", 5)
        first = index.sessions(Search(text="deploy"), limit=3)
        # One more than it takes, while pages are turned.
        await record(path, [exchange("new", session="new", answered="deploy", at=NOW + 9)], log="b.0.1")
        following = index.sessions(Search(text="deploy"), limit=3, after=first.after)
        assert [row.id for row in first.rows + following.rows] == ["s5", "s4", "s3", "s2", "s1", "s0"]


async def test_a_page_of_a_text_and_more_names_than_are_looked_up_together(path: Path) -> None:
    await record(path, [exchange(f"{n}", session=f"s{n}", at=NOW + n, repository=f"acme/{n}") for n in range(300)])
    with opened(path) as index:
        assert len(all_rows(index, Search(text="hello", repository="acme/*"), 50)) == 300
        assert ids(index, Search(text="hello", repository="acme/29*"))[-1] == "s29"


async def test_a_text_in_an_encrypted_record_is_left_to_the_archive(path: Path) -> None:
    await record(path, [exchange("x", answered="plain words"), exchange("y", session="s2", answered="other words")])
    with opened(path, envelope=ENVELOPE) as index:
        page = index.sessions(Search(text="wor"), limit=1)
        following = index.sessions(Search(text="wor"), limit=1, after=page.after)
        assert sorted(row.id for row in page.rows + following.rows) == ["s1", "s2"]
        assert following.after is None
        assert len(index.sessions(Search()).rows) == 2
    assert b"plain" not in path.with_name("search.db").read_bytes()
    with opened(path) as index:
        assert ids(index, Search(text="plain words")) == ["s1"]


async def test_of_an_encrypted_exchange_no_words_are_kept_and_the_rest_is_found(path: Path) -> None:
    key = ENVELOPE.new_key("s1", "k")
    draft = Draft(Kind.EXCHANGE, "x", "s1", 1, {"user": "alice"}, key.protect(b"secret words"), [], "k")
    sealed, _ = Chain("a.0.1").seal(draft)
    store = SqliteStore(path)
    await store.put([sealed], [], [WrappedKey(key.id, key.session, key.wrapped)])
    await store.aclose()
    with opened(path) as index:
        assert ids(index, Search(text="secret")) == []
        assert ids(index, Search(user="alice")) == ["s1"]


# --- the file --------------------------------------------------------------------------------------------------------


def forge(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as forger:
        triggers = [name for (name,) in forger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        forger.executescript("".join(f"DROP TRIGGER {name};" for name in triggers) + statement)


async def test_new_exchanges_are_there_at_once_and_survive_a_restart(path: Path) -> None:
    await record(path, [exchange("x")])
    with opened(path) as index:
        assert ids(index) == ["s1"]
        await record(path, [exchange("y", session="s2", at=NOW + 1)], log="more.0.1")
        assert ids(index) == ["s2", "s1"]
    with opened(path) as index:
        assert ids(index) == ["s2", "s1"]


async def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    await record(path, [exchange("x")])
    with opened(path) as index:
        index.catch_up()
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("search.db*")}
    assert modes == {0o600}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"this is no database " * 500),
        damage,
        lambda path: forge(path, "UPDATE state SET version = '0';"),
        lambda path: forge(path, "DELETE FROM state;"),
        lambda path: forge(path, "DROP TABLE state;"),
        lambda path: forge(path, "DROP TABLE summed;"),
        lambda path: forge(path, "UPDATE state SET hash = 'another';"),
        lambda path: forge(path, "UPDATE state SET number = 1000;"),
    ],
    ids=["deleted", "emptied", "no database", "damaged", "version", "state", "tables", "a table", "record", "number"],
)
async def test_an_index_that_is_of_no_use_is_made_anew(path: Path, spoil: Callable[[Path], object]) -> None:
    await record(path, [exchange("x"), exchange("y", session="s2", at=NOW + 1)])
    with opened(path) as index:
        index.catch_up()
    spoil(path.with_name("search.db"))
    with opened(path) as index:
        assert ids(index) == ids(index, Search(text="hello")) == ["s2", "s1"]


async def test_an_index_that_is_deleted_while_it_is_open_is_made_anew(path: Path) -> None:
    await record(path, [exchange("x")])
    with opened(path) as index:
        index.catch_up()
        for file in path.parent.glob("search.db*"):
            file.unlink()
        assert ids(index) == ["s1"]
        assert path.with_name("search.db").exists()


async def test_of_another_record_in_the_same_place_only_its_own_sessions_are_listed(path: Path) -> None:
    await record(path, [exchange("x"), exchange("y")])
    with opened(path) as index:
        assert ids(index) == ["s1"]
        for file in path.parent.glob("record.db*"):
            file.unlink()
        await record(path, [exchange(f"{n}", session="other") for n in range(5)])
        assert ids(index) == ["other"]


async def test_a_head_that_cannot_be_read_is_passed_over(path: Path) -> None:
    await record(path, [exchange(name, session=name, at=NOW + n) for n, name in enumerate("abc")])
    forged = """CAST(replace(CAST(head AS TEXT), '"model":"gpt-5"', '"model":5') AS BLOB)"""
    forge(path, f"UPDATE entry SET head = {forged} WHERE number = 2;")  # noqa: S608 - a literal above
    with opened(path) as index:
        assert ids(index) == ["c", "a"]


async def test_an_index_where_none_can_be_made_is_told(path: Path, tmp_path: Path) -> None:
    await record(path, [exchange("x")])
    (tmp_path / "folder").mkdir()
    index = SqliteIndex(path, tmp_path / "folder")
    with pytest.raises(StoreUnavailable, match="folder"):
        index.sessions()
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SqliteIndex(tmp_path / "none.db", tmp_path / "search.db")


# --- several threads -------------------------------------------------------------------------------------------------


async def test_many_threads_ask_a_new_index_at_once_and_see_the_same(path: Path) -> None:
    await record(path, [exchange(f"{n}", session=f"s{n % 50}", at=NOW + n) for n in range(500)])
    with opened(path) as index:
        answers = await asyncio.gather(*(asyncio.to_thread(ids, index) for _ in range(8)))
        await record(path, [exchange("new", session="new", at=NOW + 1000)], log="more.0.1")
        again = await asyncio.gather(*(asyncio.to_thread(index.sessions, limit=100) for _ in range(8)))
    assert all(answer == answers[0] and len(answer) == 50 for answer in answers)
    assert all(len(page.rows) == 51 for page in again)
    assert [row.exchanges for row in again[0].rows] == [1] + [10] * 50


async def test_who_asks_while_the_index_is_made_is_told_to_come_back(path: Path) -> None:
    await record(path, [exchange("x")])
    with opened(path, wait_seconds=0.01) as index:
        with index._locked(), pytest.raises(StoreUnavailable, match="is being made"):
            await asyncio.to_thread(index.sessions)
        assert ids(index) == ["s1"]


async def test_threads_that_write_erase_and_ask_do_not_disturb_each_other(path: Path) -> None:
    await record(path, [exchange(f"{n}", session=f"s{n}", at=NOW + n) for n in range(200)])
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask(index: SqliteIndex) -> None:
        try:
            while not stop.is_set():
                index.sessions(Search(text="hello"))
                index.findings(FindingSearch())
                index.catch_up()
        except Exception as error:  # noqa: BLE001 - whatever it is
            failures.append(error)

    with opened(path) as index:
        threads = [threading.Thread(target=ask, args=(index,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(5):
            await record(path, [exchange(f"new {n}", session=f"new {n}", at=NOW + 1000)], log=f"more.{n}.1")
            await asyncio.to_thread(SqliteEraser(path).remove_entries, "test.0.1", 10 * (n + 1))
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(all_rows(index, Search(), 50)) == 155


def long_session(count: int) -> list[Exchange]:
    return [exchange(f"{n}", at=NOW + n, model=f"m{n % 3}") for n in range(count)]


async def test_a_session_of_very_many_exchanges_is_one_row(path: Path) -> None:
    await record(path, long_session(3000))
    with opened(path) as index:
        (row,) = index.sessions(Search(model="m1")).rows
        assert row == SqliteArchive(path).sessions()[0]
