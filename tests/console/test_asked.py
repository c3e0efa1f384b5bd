from __future__ import annotations

import pytest

from extproc.approval.approval import State
from extproc.console.asked import choice_of, exchange_link, link, moment_of, text_of
from extproc.console.page import PageFault

NOW = 1_760_000_000.0


def test_blank_values_are_none() -> None:
    given = {"a": "  ", "b": " x "}
    assert [text_of(given, name) for name in ("a", "b", "c")] == [None, "x", None]
    assert choice_of(given, "a", State) is None
    assert moment_of(given, "a", NOW) is None


def test_values_are_read() -> None:
    given = {"state": "denied", "age": "2h", "date": "2025-10-09", "zone": "2025-10-09T10:53:20+02:00"}
    assert choice_of(given, "state", State) is State.DENIED
    assert moment_of(given, "age", NOW) == NOW - 7200
    assert moment_of(given, "date", NOW) == 1_759_968_000
    assert moment_of(given, "zone", NOW) == NOW


def test_what_is_not_understood_is_named_and_not_repeated() -> None:
    given = {"x": "y" * 1001, "state": "<b>", "since": "<b>"}
    for read, name in (
        (lambda: text_of(given, "x"), "x"),
        (lambda: choice_of(given, "state", State), "state"),
        (lambda: moment_of(given, "since", NOW), "since"),
    ):
        with pytest.raises(PageFault) as fault:
            read()
        assert fault.value.status == 422
        assert fault.value.message.startswith(f"{name}: expected")
        assert "<b>" not in fault.value.message


def test_links_are_within_the_console_whatever_is_in_them() -> None:
    assert link("/findings") == link("/findings", rule=None) == "/findings"
    assert link("/findings", rule="a&b=\ud800") == "/findings?rule=a%26b%3D%3F"
    assert exchange_link("../s?", "e#/1") == "/sessions/..%2Fs%3F#e%23%2F1"
    assert exchange_link(None, "e1") is None
