from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import ConfigError
from extproc.feed.cursor import Cursor, load, save


def test_what_was_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state" / "feed.json"
    save(path, Cursor(1, {"a": 3, "b": None}))
    save(path, Cursor(1, {"a": 4, "b": None}))
    assert load(path) == Cursor(1, {"a": 4, "b": None})
    assert list(path.parent.iterdir()) == [path]


def test_without_a_file_the_feed_begins_at_the_beginning(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == Cursor(1, {})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"v":1}', '{"v":1,"next":{"a":"3"}}', '{"v":1,"next":[]}'])
def test_a_file_that_is_no_cursor_is_named_and_not_taken_for_the_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(ConfigError, match="f: no cursor of a feed"):
        load(tmp_path / "f")


def test_a_cursor_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"v":2,"next":{}}')
    with pytest.raises(ConfigError, match="version 2, expected 1"):
        load(tmp_path / "f")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_where_it_cannot_be_saved_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        save(path, Cursor(1, {}))
    assert list(tmp_path.iterdir()) == [path]


@given(raw=st.binary())
def test_any_bytes_are_a_cursor_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(raw)
    try:
        assert load(path).v == 1
    except ConfigError:
        return
