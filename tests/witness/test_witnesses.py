from __future__ import annotations

import asyncio
import logging

import pytest

from extproc.witness.port import Contradicted, WitnessUnavailable
from extproc.witness.witnesses import LONGEST_PAUSE_SECONDS, Witnesses


class Keeper:
    """Fail as often as `failures` says, wait where `gate` is closed, and keep what was published."""

    def __init__(self, name: str = "w") -> None:
        self.name = name
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.one_by_one = False
        self.tried: list[tuple[str, int]] = []
        self.took: list[tuple[str, int, str]] = []

    async def publish(self, log: str, size: int, note: str) -> None:
        self.tried.append((log, size))
        await self.gate.wait()
        if self.one_by_one:
            self.gate.clear()
        if self.failures:
            raise self.failures.pop(0)
        self.took.append((log, size, note))


class Clock:
    """A clock that stands, and pauses that end when a test lets them."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.pauses: list[float] = []
        self.pausing = asyncio.Event()
        self.wakes = asyncio.Event()

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.pausing.set()
        await self.wakes.wait()
        # An event that is set already does not let others run.
        await asyncio.sleep(0)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)


def down(times: int) -> list[Exception]:
    return [WitnessUnavailable("away") for _ in range(times)]


async def test_an_offer_returns_at_once_and_is_published_beside_the_caller() -> None:
    keeper, clock = Keeper(), Clock()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "note 1")
    assert keeper.tried == []
    await settled()
    assert keeper.took == [("a", 1, "note 1")]
    await witnesses.aclose()


async def test_of_each_log_only_the_newest_checkpoint_is_kept() -> None:
    keeper, clock = Keeper(), Clock()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    keeper.gate.clear()
    witnesses.offer("a", 1, "1")
    await settled()
    for size in (2, 4, 3):
        witnesses.offer("a", size, str(size))
    witnesses.offer("b", 1, "b")
    keeper.gate.set()
    await settled()
    assert keeper.took == [("a", 1, "1"), ("a", 4, "4"), ("b", 1, "b")]
    await witnesses.aclose()


async def test_one_that_failed_does_not_take_the_place_of_a_newer_one() -> None:
    keeper, clock = Keeper(), Clock()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    keeper.failures = down(1)
    keeper.gate.clear()
    witnesses.offer("a", 1, "1")
    await settled()
    witnesses.offer("a", 2, "2")
    keeper.gate.set()
    clock.wakes.set()
    await settled()
    assert keeper.took == [("a", 2, "2")]
    await witnesses.aclose()


async def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    keeper, clock = Keeper(), Clock()
    clock.wakes.set()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    keeper.failures = down(11)
    witnesses.offer("a", 1, "1")
    await settled()
    assert clock.pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    keeper.failures = down(1)
    witnesses.offer("a", 2, "2")
    await settled()
    assert clock.pauses[11:] == [1]
    assert keeper.took == [("a", 1, "1"), ("a", 2, "2")]
    await witnesses.aclose()


async def test_a_checkpoint_that_is_never_taken_holds_up_no_other_log() -> None:
    class Picky(Keeper):
        async def publish(self, log: str, size: int, note: str) -> None:
            if log == "bad":
                raise WitnessUnavailable("the answer has status 400")
            await super().publish(log, size, note)

    keeper, clock = Picky(), Clock()
    clock.wakes.set()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    witnesses.offer("bad", 1, "1")
    witnesses.offer("good", 1, "1")
    await settled()
    assert keeper.took == [("good", 1, "1")]
    await witnesses.aclose()


async def test_a_witness_that_is_down_holds_up_no_other_and_is_said_to_be_behind() -> None:
    up, away, clock = Keeper("up"), Keeper("away"), Clock()
    away.failures = down(1)
    witnesses = Witnesses([up, away], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "1")
    await settled()
    clock.at += 30
    witnesses.offer("a", 2, "2")
    await settled()
    clock.at += 12
    assert up.took == [("a", 1, "1"), ("a", 2, "2")]
    assert witnesses.behind() == {"up": 0, "away": 42}
    clock.wakes.set()
    await settled()
    assert away.took == [("a", 2, "2")]
    assert witnesses.behind() == {"up": 0, "away": 0}
    await witnesses.aclose()


async def test_what_is_being_tried_counts_as_untaken_and_once_taken_only_what_came_after() -> None:
    keeper, clock = Keeper(), Clock()
    keeper.gate.clear()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "1")
    await settled()
    clock.at += 5
    witnesses.offer("a", 2, "2")
    clock.at += 1
    assert witnesses.behind() == {"w": 6}
    keeper.one_by_one = True
    keeper.gate.set()
    await settled()
    assert keeper.took == [("a", 1, "1")]
    assert witnesses.behind() == {"w": 1}
    keeper.gate.set()
    await settled()
    assert witnesses.behind() == {"w": 0}
    await witnesses.aclose()


async def test_a_contradiction_is_an_error_in_the_log_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    keeper, clock = Keeper(), Clock()
    keeper.failures = [Contradicted("contradiction at a/1"), WitnessUnavailable("away")]
    clock.wakes.set()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "1")
    await settled()
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert caplog.records[0].__dict__["fields"]["failure"] == "contradiction at a/1"
    assert witnesses.contradictions() == {"w": 1}
    await witnesses.aclose()


async def test_a_fault_of_a_witness_does_not_silence_it_and_its_text_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper, clock = Keeper(), Clock()
    keeper.failures = [RuntimeError("https://user:s3cret@host")]
    clock.wakes.set()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "1")
    await settled()
    assert keeper.took == [("a", 1, "1")]
    assert [record.__dict__["fields"]["failure"] for record in caplog.records] == ["RuntimeError"]
    await witnesses.aclose()


async def test_a_try_that_hangs_is_given_up() -> None:
    keeper, clock = Keeper(), Clock()
    keeper.gate.clear()
    witnesses = Witnesses([keeper], now=clock.now, sleep=clock.sleep, publish_seconds=0.01)
    witnesses.offer("a", 1, "1")
    await clock.pausing.wait()
    keeper.gate.set()
    clock.wakes.set()
    await settled()
    assert keeper.took == [("a", 1, "1")]
    await witnesses.aclose()


async def test_closing_tries_everything_once_more_even_in_the_middle_of_a_pause_or_a_try() -> None:
    pausing, trying, clock = Keeper("pausing"), Keeper("trying"), Clock()
    pausing.failures = down(1)
    trying.gate.clear()
    witnesses = Witnesses([pausing, trying], now=clock.now, sleep=clock.sleep)
    witnesses.offer("a", 1, "1")
    await settled()
    witnesses.offer("b", 1, "1")
    trying.gate.set()
    await witnesses.aclose()
    assert sorted(pausing.took) == sorted(trying.took) == [("a", 1, "1"), ("b", 1, "1")]


async def test_closing_ends_in_time_though_a_witness_hangs_and_says_what_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging, failing, clock = Keeper("hanging"), Keeper("failing"), Clock()
    hanging.gate.clear()
    failing.failures = down(2)
    witnesses = Witnesses([hanging, failing], now=clock.now, sleep=clock.sleep, grace_seconds=0.02)
    witnesses.offer("a", 1, "1")
    await settled()
    async with asyncio.timeout(5):
        await witnesses.aclose()
    left = {record.__dict__["fields"]["witness"] for record in caplog.records if "stopped" in record.message}
    assert left == {"hanging", "failing"}
    assert witnesses.behind() == {"hanging": 0, "failing": 0}
    clock.at += 1
    assert witnesses.behind() == {"hanging": 1, "failing": 1}


async def test_without_witnesses_nothing_happens() -> None:
    witnesses = Witnesses([], now=lambda: 0.0)
    witnesses.offer("a", 1, "1")
    assert witnesses.behind() == {}
    await witnesses.aclose()
