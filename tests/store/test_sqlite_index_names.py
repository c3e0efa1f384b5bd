from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.store.searching import glob
from extproc.store.sqlite_index_file import open_for_writing
from extproc.store.sqlite_index_names import Names, digest, exactly, fitting, texts_of

texts = st.text(st.sampled_from("ab*/.[]?\\%_éz\ud7ff\ue000\U0010ffff\0"), max_size=6)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_writing(tmp_path / "search.db", texts=True)) as connection:
        yield connection


@given(st.lists(texts, max_size=12), texts)
def test_names_that_fit_a_glob_are_those_that_the_glob_fits(names: list[str], pattern: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE name (id INTEGER PRIMARY KEY, kind TEXT, text TEXT, UNIQUE (kind, text))")
        known = Names(connection)
        ids = {known.id("path", name): name for name in names}
        known.id("user", pattern)
        fits = glob(pattern)
        assert sorted(fitting(connection, pattern, "path")) == sorted(one for one, name in ids.items() if fits(name))


def test_a_name_has_one_id_for_good_and_another_for_each_kind(connection: sqlite3.Connection) -> None:
    first = Names(connection)
    user, path = first.id("user", "x"), first.id("path", "x")
    assert len({user, path, first.id("user", "y")}) == 3
    assert first.id("user", "x") == Names(connection).id("user", "x") == user
    assert first.maybe("user", None) == 0
    assert texts_of(connection, [user, 0]) == {user: "x"}
    assert exactly(connection, "x", "user", "path", "group") == [user, path]
    assert exactly(connection, "\ud800", "user") == []


def test_several_names_together_are_found_by_each(connection: sqlite3.Connection) -> None:
    names = Names(connection)
    elements = [names.id("path", path) for path in ("a", "b")]
    whole = names.whole("paths", digest(["a", "b"]), elements)
    assert Names(connection).whole("paths", digest(["a", "b"]), elements) == whole
    rows = connection.execute("SELECT element FROM member WHERE whole = ? ORDER BY element", (whole,)).fetchall()
    assert [element for (element,) in rows] == sorted(elements)
    assert digest(["a", "b"]) != digest(["ab"]) != digest(["a b"])
