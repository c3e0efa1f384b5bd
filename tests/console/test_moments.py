from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.console.moments import age, moment

NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_an_age_is_counted_back_from_now(text: str, seconds: int) -> None:
    assert age(text) == seconds
    assert moment(text, NOW, in_utc=True) == NOW - seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-10-09", 1_759_968_000.0),
        ("2025-10-09T08:53:20", NOW),
        ("2025-10-09T08:53:20Z", NOW),
        ("2025-10-09T10:53:20+02:00", NOW),
    ],
)
def test_a_time_without_a_zone_is_in_utc(text: str, at: float) -> None:
    assert moment(text, 0, in_utc=True) == at


def test_or_else_it_is_in_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        assert moment("2025-10-09T11:53:20", 0, in_utc=False) == NOW
        assert moment("2025-10-09T08:53:20Z", 0, in_utc=False) == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7y", "1234567s", "-7d", "7d ", "\u0667d", "2025-13-01", "2025-10-09T25"]
)
def test_anything_else_is_refused(text: str) -> None:
    assert age(text) is None
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the caller's
        moment(text, NOW, in_utc=True)


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_that_can_be_written_is_read(at: datetime) -> None:
    assert moment(at.isoformat(), 0, in_utc=True) == at.timestamp()


@given(st.text())
def test_nothing_but_a_value_error_comes_of_a_text(text: str) -> None:
    try:
        assert isinstance(moment(text, NOW, in_utc=True), float)
    except ValueError:
        assert age(text) is None
