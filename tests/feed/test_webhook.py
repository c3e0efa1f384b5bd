from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.feed.event import event_of
from extproc.feed.port import TargetUnavailable
from extproc.feed.webhook import WebhookTarget
from extproc.notify.webhook import SIGNATURE_HEADER, verify_signature
from extproc.secret import Secret
from tests.feed.ledger import entries_of

NOW = 1_760_000_000.5
KEY = Secret("0123456789abcdef0123456789abcdef")
EVENTS = [event_of(entry) for entry in entries_of("pod-1.0.7", 3)]


class Receiver:
    def __init__(self) -> None:
        self.status = 204
        self.hangs = False
        self.got: list[tuple[str, str, bytes]] = []

    async def handle(self, asked: web.Request) -> web.Response:
        self.got.append((asked.headers["content-type"], asked.headers[SIGNATURE_HEADER], await asked.read()))
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"location": "/elsewhere"} if self.status == 302 else {})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def made(receiver: Receiver) -> AsyncIterator[Callable[..., WebhookTarget]]:
    app = web.Application()
    app.router.add_post("/{any:.*}", receiver.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = Secret(str(server.make_url("/siem?sig=s3cret")))
        yield lambda **more: WebhookTarget("feeds[0]", url, KEY, session=session, now=lambda: NOW, **more)


async def test_a_batch_is_posted_as_ndjson_with_a_signature_that_its_receiver_can_verify(
    made: Callable[..., WebhookTarget], receiver: Receiver
) -> None:
    await made().send(EVENTS)
    ((content_type, signature, body),) = receiver.got
    assert content_type == "application/x-ndjson"
    assert [json.loads(line)["index"] for line in body.splitlines()] == [0, 1, 2]
    assert verify_signature(signature, body, KEY, NOW)
    assert not verify_signature(signature, body[:-1], KEY, NOW)


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_success_means_taken(made: Callable[..., WebhookTarget], receiver: Receiver, status: int) -> None:
    receiver.status = status
    await made().send(EVENTS)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [302, 400, 409, 413, 429, 500])
async def test_anything_else_is_not_and_the_address_is_not_told(
    made: Callable[..., WebhookTarget], receiver: Receiver, status: int
) -> None:
    receiver.status = status
    with pytest.raises(TargetUnavailable, match=f"status {status}") as caught:
        await made().send(EVENTS)
    assert "s3cret" not in str(caught.value)
    assert len(receiver.got) == 1


async def test_a_silent_receiver_is_given_up(made: Callable[..., WebhookTarget], receiver: Receiver) -> None:
    receiver.hangs = True
    with pytest.raises(TargetUnavailable, match="TimeoutError"):
        await made(timeout_seconds=0.05).send(EVENTS)
