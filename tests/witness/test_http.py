from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.credentials.source import FileSource
from extproc.secret import Secret
from extproc.witness.http import HttpWitness
from extproc.witness.port import WitnessUnavailable

NOTE = "gateway.example/pod-1.0.7\n42\ncm9vdA==\n\n— gateway.example c2lnbmF0dXJl\n"


class Receiver:
    def __init__(self) -> None:
        self.status = 204
        self.hangs = False
        self.got: list[tuple[str, str | None, str]] = []

    async def handle(self, asked: web.Request) -> web.Response:
        self.got.append((asked.headers["content-type"], asked.headers.get("authorization"), await asked.text()))
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"location": "/elsewhere"} if self.status == 302 else {})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def made(receiver: Receiver) -> AsyncIterator[Callable[..., HttpWitness]]:
    app = web.Application()
    app.router.add_post("/{any:.*}", receiver.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = Secret(str(server.make_url("/add?sig=s3cret")))
        yield lambda **more: HttpWitness("witnesses[0]", url, session=session, **more)


async def test_the_note_is_posted_as_it_is(made: Callable[..., HttpWitness], receiver: Receiver) -> None:
    await made().publish("pod-1.0.7", 42, NOTE)
    assert receiver.got == [("text/plain; charset=utf-8", None, NOTE)]


async def test_the_token_of_the_file_goes_with_it_also_after_it_was_rotated(
    made: Callable[..., HttpWitness], receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text("first-token-0123456789\n")
    witness = made(token=FileSource("witness", path))
    await witness.publish("pod-1.0.7", 42, NOTE)
    path.write_text("second-token-01234567890\n")
    await witness.publish("pod-1.0.7", 42, NOTE)
    tokens = [token for _, token, _ in receiver.got]
    assert tokens == ["Bearer first-token-0123456789", "Bearer second-token-01234567890"]


async def test_without_its_token_nothing_is_posted(
    made: Callable[..., HttpWitness], receiver: Receiver, tmp_path: Path
) -> None:
    with pytest.raises(WitnessUnavailable, match="cannot be read"):
        await made(token=FileSource("witness", tmp_path / "none")).publish("pod-1.0.7", 42, NOTE)
    assert receiver.got == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 409])
async def test_success_and_what_is_there_already_is_taken(
    made: Callable[..., HttpWitness], receiver: Receiver, status: int
) -> None:
    receiver.status = status
    await made().publish("pod-1.0.7", 42, NOTE)


@pytest.mark.parametrize("status", [302, 400, 401, 404, 500, 503])
async def test_anything_else_is_not_and_the_address_is_not_told(
    made: Callable[..., HttpWitness], receiver: Receiver, status: int
) -> None:
    receiver.status = status
    with pytest.raises(WitnessUnavailable, match=f"status {status}") as caught:
        await made().publish("pod-1.0.7", 42, NOTE)
    assert "s3cret" not in str(caught.value)
    assert len(receiver.got) == 1


async def test_a_silent_witness_is_given_up(made: Callable[..., HttpWitness], receiver: Receiver) -> None:
    receiver.hangs = True
    with pytest.raises(WitnessUnavailable, match="TimeoutError"):
        await made(timeout_seconds=0.05).publish("pod-1.0.7", 42, NOTE)
