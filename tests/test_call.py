"""A call, told by hand what a transport would tell it, whatever comes when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.call import Call
from extproc.carrier import Status
from extproc.credential import Credential
from extproc.endpoint import Upstream
from extproc.errors import StoreUnavailable
from extproc.events import End, Ended
from extproc.exchange import Exchange
from extproc.identity.principal import Principal
from extproc.metrics import Metrics
from extproc.outside import Bounds, Outside
from extproc.secret import Secret
from tests.playbook import ALICE, CREDENTIAL, PROMPT, TOKEN, rules
from tests.test_processor import KNOWN, body, posted

BOUNDS = Bounds(max_exchanges=9, idle_seconds=60, total_seconds=600, drain_seconds=0.1, end_reason_seconds=0.01)
ASKED = posted("/chat/completions", KNOWN)


class Wire:
    """A stream that keeps what is sent."""

    def __init__(self) -> None:
        self.metadata: Mapping[str, str] = {}
        self.sent: list[bytes] = []
        self.asked_for_more = 0
        self.status: Status | None = None

    def send(self, message: bytes) -> None:
        assert self.status is None
        self.sent.append(message)

    def more(self) -> None:
        self.asked_for_more += 1

    def finish(self) -> None:
        assert self.status is None
        self.status = Status.OK

    def abort(self, status: Status, _text: str) -> None:
        assert self.status is None
        self.status = status


class Around:
    """Identity and credentials that are known at once, and a disk that is done when the test says so."""

    def __init__(self) -> None:
        self.appended: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
        self.disk: list[asyncio.Future[None]] = []

    def cached(self, token: Secret) -> Principal | None:
        return ALICE if token.reveal() == TOKEN else None

    async def verify(self, token: Secret) -> Principal:
        raise NotImplementedError

    def ready(self, name: str, upstream: Upstream) -> Credential | None:
        return CREDENTIAL

    async def get(self, name: str, upstream: Upstream) -> Credential:
        raise NotImplementedError

    async def wait(self, request: ApprovalRequest) -> NotHeld:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> asyncio.Future[None]:
        self.appended.append((opening, closing))
        self.disk.append(asyncio.get_running_loop().create_future())
        return self.disk[-1]

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        raise NotImplementedError

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        raise NotImplementedError

    async def flushed(self) -> None:
        """Have all that was written reach the disk."""
        for done in self.disk:
            if not done.done():
                done.set_result(None)
        await asyncio.sleep(0)


class Run:
    """A call with everything around it."""

    def __init__(self) -> None:
        self.wire, self.around = Wire(), Around()
        self.gone = 0
        self.done: list[Call] = []
        outside = Outside(
            rules=rules(), identities=self.around, credentials=self.around, approvers=self.around,
            recorder=self.around, metrics=Metrics(), bounds=BOUNDS, now=lambda: 1_760_000_000.0,
        )  # fmt: skip
        self.call = Call(
            self.wire, Exchange("x1", outside.rules), outside, 0.0, on_gone=self._go, on_done=self.done.append
        )

    def _go(self) -> None:
        self.gone += 1

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            while not self.done:
                await self.around.flushed()
                await asyncio.sleep(0.001)
        assert (len(self.done), self.gone) == (1, 1)


@pytest.fixture
async def run() -> Run:
    return Run()


async def test_what_needs_no_waiting_is_done_in_the_call_that_brought_it(run: Run) -> None:
    assert run.call.receive(ASKED)
    assert not run.call.receive(body(PROMPT))  # its opening is on the way to the disk
    assert (len(run.around.appended), run.wire.sent) == (1, [])
    await run.around.flushed()
    assert (len(run.wire.sent), run.wire.asked_for_more) == (2, 1)


async def test_an_exchange_that_is_reset_in_the_read_that_brought_it_is_recorded_whole(run: Run) -> None:
    run.call.receive(ASKED)
    run.call.receive(body(PROMPT))
    run.call.reset()
    await run.ended()
    (opening, nothing), (again, closing) = run.around.appended
    assert opening is not None
    assert closing is not None
    assert (nothing, again, closing["error"]["code"]) == (None, None, "client.gone")
    assert run.wire.status is None


async def test_nothing_is_sent_after_the_end_whatever_the_disk_says_later(run: Run) -> None:
    run.call.receive(ASKED)
    run.call.receive(body(PROMPT))
    opening = run.around.disk[0]
    run.call.cut_off(End.TIMEOUT)
    assert opening.cancelled()
    await run.ended()
    assert (run.wire.sent, run.wire.status) == ([], Status.DEADLINE_EXCEEDED)


async def test_an_end_that_the_access_log_told_before_is_not_waited_for(run: Run) -> None:
    run.call.receive(ASKED)
    run.call.learn(Ended(End.UPSTREAM))
    run.call.end()
    (_, closing) = run.around.appended[0]
    assert closing is not None
    assert closing["error"]["code"] == "upstream.reset"
    await run.ended()
    assert run.wire.status is Status.INTERNAL


async def test_a_disk_that_fails_lets_nothing_go(run: Run) -> None:
    run.call.receive(ASKED)
    run.call.receive(body(PROMPT))
    run.around.disk[0].set_exception(StoreUnavailable("full"))
    await asyncio.sleep(0)
    # The client is told in its own words: an answer of the gateway, and nothing to the upstream.
    assert len(run.wire.sent) == 1
    assert b"recording.unavailable" in run.wire.sent[0]
    assert run.wire.status is Status.OK
    await run.ended()


@pytest.mark.parametrize("message", [b"\xff", b"", body(b"{}")])
async def test_a_message_that_has_no_place_fails_the_exchange(run: Run, message: bytes) -> None:
    assert not run.call.receive(message)
    await run.ended()
    assert run.wire.status is Status.FAILED_PRECONDITION


async def test_a_reset_while_its_end_is_being_recorded_changes_nothing(run: Run) -> None:
    run.call.receive(ASKED)
    run.call.cut_off(End.DRAIN)
    run.call.reset()
    run.call.cut_off(End.TIMEOUT)
    await run.ended()
    assert [closing["error"]["code"] for _, closing in run.around.appended if closing] == ["gateway.draining"]
    assert run.wire.status is None


@pytest.mark.parametrize("how", ["message", "end"])
async def test_what_comes_while_its_end_is_being_recorded_changes_nothing(run: Run, how: str) -> None:
    run.call.receive(ASKED)
    run.call.cut_off(End.TIMEOUT)
    if how == "message":
        assert not run.call.receive(body(PROMPT))
    else:
        run.call.end()
    assert (run.around.disk[0].cancelled(), run.wire.status) == (False, None)
    await run.ended()
    assert [closing["error"]["code"] for _, closing in run.around.appended if closing] == ["gateway.timeout"]
    assert run.wire.status is Status.DEADLINE_EXCEEDED
