from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.approval.approval import Approval, State
from extproc.errors import ConfigError
from extproc.notify.notice import NotSent, notice_of
from extproc.notify.notifier import Notifier
from extproc.notify.webhook import SIGNATURE_HEADER, Webhook, read_key, sign, verify_signature
from extproc.secret import Secret
from tests.approving import NOW, request

KEY = Secret("0123456789abcdef0123456789abcdef")
BODY = b'{"event":"approval.requested","id":"a1"}'
NOTICE = notice_of(Approval(request(), State.PENDING), None)


class Receiver:
    """Answer with the statuses that are set, then with 204, and keep what came."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, bytes]] = []
        self.hangs = False

    async def handle(self, asked: web.Request) -> web.Response:
        self.got.append((asked.headers[SIGNATURE_HEADER], await asked.read()))
        if self.hangs:
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Callable[..., Webhook]]:
    app = web.Application()
    app.router.add_post("/{any:.*}", receiver.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:

        def made(path: str = "/hook?sig=s3cret", **changes: float) -> Webhook:
            url = Secret(str(server.make_url(path)))
            return Webhook("webhooks[0]", url, KEY, session=session, now=lambda: NOW, **changes)

        yield made


async def test_what_is_posted_carries_a_signature_that_its_receiver_can_verify(
    webhook: Callable[..., Webhook], receiver: Receiver
) -> None:
    await webhook().send(NOTICE)
    ((header, body),) = receiver.got
    assert b'"id":"a1"' in body
    assert b"proposal" not in body
    assert verify_signature(header, body, KEY, NOW)


@pytest.mark.parametrize(
    ("status", "again"), [(302, False), (400, False), (404, False), (408, True), (429, True), (500, True), (503, True)]
)
async def test_what_is_no_success_fails_and_says_whether_to_try_again(
    webhook: Callable[..., Webhook], receiver: Receiver, status: int, *, again: bool
) -> None:
    receiver.statuses = [status]
    with pytest.raises(NotSent, match=f"status {status}") as caught:
        await webhook().send(NOTICE)
    assert caught.value.again is again
    assert len(receiver.got) == 1


async def test_a_silent_receiver_is_given_up_and_tried_again(
    webhook: Callable[..., Webhook], receiver: Receiver
) -> None:
    receiver.hangs = True
    with pytest.raises(NotSent, match="TimeoutError") as caught:
        await webhook(timeout_seconds=0.05).send(NOTICE)
    assert caught.value.again


async def test_where_nobody_listens_the_failure_does_not_name_the_address(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        url = Secret(f"http://127.0.0.1:{unused_tcp_port}/s3cret")
        with pytest.raises(NotSent, match="ClientConnectorError") as caught:
            await Webhook("w", url, KEY, session=session, now=lambda: NOW).send(NOTICE)
    assert caught.value.again
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_receiver_that_recovers_gets_the_notice_after_growing_pauses_each_try_logged_without_the_address(
    webhook: Callable[..., Webhook], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500, 429, 408, 503]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    notifier = Notifier([webhook()], sleep=sleep, grace_seconds=10)
    notifier.requested(request())
    await notifier.aclose()
    assert pauses == [1, 2, 4, 8]
    assert len(receiver.got) == 5
    assert all(verify_signature(header, body, KEY, NOW) for header, body in receiver.got)
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert [one["try"] for one in fields] == [1, 2, 3, 4]
    assert {one["channel"] for one in fields} == {"webhooks[0]"}
    assert "s3cret" not in str(fields)


# --- the receiver's side ---------------------------------------------------------------------------------------------


def test_a_signature_is_the_documented_one() -> None:
    # printf '1760000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    expected = "t=1760000000,v1=6ff35375b428e57c0d465179caea32b890f77c44bb411367c21c9e56f5a7be3a"
    assert sign(b"{}", KEY, 1_760_000_000) == expected


@pytest.mark.parametrize("age", [0, 300, -300])
def test_a_fresh_signature_is_good(age: int) -> None:
    assert verify_signature(sign(BODY, KEY, int(NOW)), BODY, KEY, NOW + age)


@pytest.mark.parametrize("age", [300.5, 86_400, -301])
def test_a_replayed_or_postdated_one_is_not(age: float) -> None:
    assert not verify_signature(sign(BODY, KEY, int(NOW)), BODY, KEY, NOW + age)


def test_a_replay_with_a_newer_time_is_not() -> None:
    old = sign(BODY, KEY, int(NOW))
    assert not verify_signature(old.replace(f"t={int(NOW)}", f"t={int(NOW) + 1000}"), BODY, KEY, NOW + 1000)


def test_the_receiver_may_ask_for_less_age() -> None:
    assert not verify_signature(sign(BODY, KEY, int(NOW)), BODY, KEY, NOW + 11, 10)


def test_another_body_or_key_is_not() -> None:
    header = sign(BODY, KEY, int(NOW))
    assert not verify_signature(header, BODY.replace(b"a1", b"a2"), KEY, NOW)
    assert not verify_signature(header, BODY, Secret("f" * 32), NOW)
    assert not verify_signature(sign(BODY, Secret(""), int(NOW)), BODY, KEY, NOW)


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "",
        lambda good: good.partition(",")[0],
        lambda good: good.partition(",")[2],
        lambda good: good.partition("v1=")[0] + "v1=",
        lambda good: good.partition("v1=")[0] + "v1=" + "0" * 64,
        lambda good: good + ",v1=" + "0" * 64,
        lambda good: good + "\n",
        lambda good: good[:-1] + "é",
        lambda good: good.upper(),
        lambda good: good.replace("t=", "t=-"),
        lambda good: good.replace("t=", "t=" + "9" * 5000),
        lambda good: "t=١," + good.partition(",")[2],  # noqa: RUF001 - a digit that int() takes
    ],
)
def test_a_forged_or_malformed_header_is_not(forge: Callable[[str], str]) -> None:
    assert not verify_signature(forge(sign(BODY, KEY, int(NOW))), BODY, KEY, NOW)


# --- the key ---------------------------------------------------------------------------------------------------------


def test_a_key_is_read_without_its_line_end_and_a_short_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY.reveal()}\n")
    assert read_key(path) == KEY
    path.write_text("0123456789")
    with pytest.raises(ConfigError, match="at least 32") as caught:
        read_key(path)
    assert "0123" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "none")
