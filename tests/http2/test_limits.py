"""What a second holds."""

from __future__ import annotations

from extproc.http2.limits import Rate


def test_a_rate_counts_the_running_second_only() -> None:
    now = 100.0
    rate = Rate(2, lambda: now)
    assert [rate.is_over() for _ in range(3)] == [False, False, True]
    now = 100.9
    assert rate.is_over()
    now = 101.0
    assert [rate.is_over() for _ in range(3)] == [False, False, True]
