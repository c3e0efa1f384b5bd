from __future__ import annotations

import asyncio
import itertools

import pytest

from extproc.approval.approval import Approval, State
from extproc.notify.notice import Notice, NotSent
from extproc.notify.notifier import BACK_OFF, Notifier
from tests.approving import request


class Fake:
    """Be a channel that fails as often as it is told, and waits while its gate is closed."""

    def __init__(self, name: str = "fake", *failures: Exception) -> None:
        self.name = name
        self.failures = list(failures)
        self.sent: list[tuple[str, State]] = []
        self.tries = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()

    async def send(self, notice: Notice) -> None:
        self.tries += 1
        self.reached.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append((notice.id, notice.state))


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


def failing(count: int, *, again: bool = True) -> list[Exception]:
    return [NotSent("down", again=again) for _ in range(count)]


async def test_beginning_and_end_arrive_everywhere_in_order() -> None:
    channels = [Fake("one"), Fake("two")]
    notifier = Notifier(channels)
    notifier.requested(request("a1"))
    notifier.ended(Approval(request("a1"), State.EXPIRED))
    await notifier.aclose()
    assert [one.sent for one in channels] == [[("a1", State.PENDING), ("a1", State.EXPIRED)]] * 2


async def test_after_five_tries_a_notice_is_given_up_and_the_next_one_sent(caplog: pytest.LogCaptureFixture) -> None:
    channel = Fake("fake", *failing(len(BACK_OFF) + 1))
    notifier = Notifier([channel], sleep=no_pause)
    notifier.requested(request("a1"))
    notifier.requested(request("a2"))
    await notifier.aclose()
    assert channel.sent == [("a2", State.PENDING)]
    assert channel.tries == 6
    assert [record.__dict__["fields"]["try"] for record in caplog.records] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("failure", [NotSent("refused", again=False), RuntimeError("https://s3cret"), TypeError()])
async def test_what_another_try_cannot_help_is_tried_once_and_silences_nothing(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    channel = Fake("fake", failure)
    notifier = Notifier([channel], sleep=no_pause)
    notifier.requested(request("a1"))
    notifier.requested(request("a2"))
    await notifier.aclose()
    assert (channel.tries, channel.sent) == (2, [("a2", State.PENDING)])
    (record,) = caplog.records
    assert "s3cret" not in f"{record.__dict__} {caplog.text}"


async def test_a_channel_that_hangs_holds_up_no_other_and_no_caller() -> None:
    stuck, well = Fake("stuck"), Fake("well")
    stuck.gate.clear()
    notifier = Notifier([stuck, well], grace_seconds=0.01)
    for number in range(5):
        notifier.requested(request(f"a{number}"))
    await asyncio.wait_for(stuck.reached.wait(), 10)
    await notifier.aclose()
    assert [one for one, _ in well.sent] == [f"a{number}" for number in range(5)]
    assert stuck.sent == []


async def test_where_the_queue_is_full_the_oldest_are_dropped_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Fake()
    channel.gate.clear()
    notifier = Notifier([channel], queue_size=3)
    notifier.requested(request("first"))
    await asyncio.wait_for(channel.reached.wait(), 10)
    for number in range(10):
        notifier.requested(request(f"a{number}"))
    assert notifier.dropped == 7
    assert [record.__dict__["fields"]["approval"] for record in caplog.records] == [f"a{n}" for n in range(7)]
    channel.gate.set()
    await notifier.aclose()
    assert [one for one, _ in channel.sent] == ["first", "a7", "a8", "a9"]


async def test_closing_ends_within_the_grace_period_and_counts_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    channel = Fake("fake", *itertools.chain(failing(1)))

    async def for_ever(_seconds: float) -> None:
        await asyncio.Event().wait()

    notifier = Notifier([channel], sleep=for_ever, grace_seconds=0.01)
    notifier.requested(request("a1"))
    notifier.requested(request("a2"))
    await asyncio.wait_for(notifier.aclose(), 10)
    assert channel.sent == []
    assert notifier.dropped == 1
    assert "stopped before all notices were sent" in caplog.text
    notifier.requested(request("late"))


async def test_without_channels_nothing_is_done() -> None:
    notifier = Notifier([])
    notifier.requested(request())
    await notifier.aclose()
    assert (notifier.channels, notifier.dropped) == ([], 0)
