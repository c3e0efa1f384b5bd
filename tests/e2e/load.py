"""Load on a gateway that is killed again and again: what its clients got to see, and whether it is recorded."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.recording.entry import Kind, read_head
from extproc.store.port import Archive, Ledger
from extproc.verification.verify import verify
from tests.e2e.gateway import Gateway, until
from tests.e2e.upstream import DONE, Call, answer_json, event

CLIENTS = 12
STATES = ("up", "down", "flapping")


@dataclass
class Load:
    """Clients that ask all the time, and what each of them got to see."""

    gateway: Gateway
    random: random.Random
    seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By decision id: what was asked, and the text or body that arrived."""
    asked: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._client(stop) for _ in range(CLIENTS)))

    async def _client(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.asked += 1
            await self._ask(f"question {self.asked}", stream=self.random.random() < 0.7)
            await asyncio.sleep(self.random.random() / 10)

    async def _ask(self, text: str, *, stream: bool) -> None:
        user = "mallory" if self.random.random() < 0.1 else "alice"
        received = b""
        decision_id = None
        try:
            async with self.gateway.chat(stream=stream, text=text, user=user) as response:
                decision_id = response.headers.get("x-gateway-decision-id")
                async for chunk in response.content.iter_any():
                    received += chunk
        except (aiohttp.ClientError, ConnectionError):
            pass
        if decision_id is not None:
            self.seen[decision_id] = (text, text_of(received))


def text_of(received: bytes) -> str:
    """Return what a client shows of an answer, however much of it arrived."""
    if not received.startswith(b"data:"):
        try:
            body = json.loads(received)
        except ValueError:
            return ""
        return "" if "error" in body else str(body["choices"][0]["message"]["content"])
    texts = []
    for frame in received.split(b"\n\n")[:-1]:
        if frame.startswith(b"data: {"):
            tree = json.loads(frame.removeprefix(b"data: "))
            texts += [choice["delta"].get("content", "") for choice in tree["choices"]]
    return "".join(texts)


async def talkative(call: Call) -> None:
    """Answer at length, and no faster than one can read, so that a kill finds answers in the middle."""
    question = json.loads(call.seen.body)["messages"][0]["content"]
    words = [f"{question} word {number} " for number in range(20)]
    if not json.loads(call.seen.body).get("stream"):
        await call.whole(answer_json("".join(words)))
        return
    await call.head(content_type="text/event-stream", transfer_encoding="chunked")
    for word in words:
        await call.chunk(event(word))
        await asyncio.sleep(0.01)
    await call.chunk(event(finish="stop"))
    await call.chunk(DONE)
    await call.end()


class Pausing:
    """An upstream that streams some words, waits until it is told to go on, and streams others."""

    def __init__(self, first: Sequence[str], then: Sequence[str], whole: str = "hello") -> None:
        self.go_on = asyncio.Event()
        self._first, self._then, self._whole = first, then, whole

    async def __call__(self, call: Call) -> None:
        if not json.loads(call.seen.body).get("stream"):
            await call.whole(answer_json(self._whole))
            return
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        for word in self._first:
            await call.chunk(event(word))
        await self.go_on.wait()
        for word in self._then:
            await call.chunk(event(word))
        await call.chunk(event(finish="stop"))
        await call.chunk(DONE)
        await call.end()


async def killed_under_load(
    gateway: Gateway, kills: int, store_is: Callable[[str], AbstractAsyncContextManager[None]]
) -> Load:
    """Kill the service of a prepared gateway at random moments, each time with the store in the next of `STATES`.

    Afterwards everything is shipped, and the service has stopped.
    """
    gateway.upstream.play(talkative)
    await gateway.start()
    chance = random.Random(20261122)  # noqa: S311 - no secret, and the same in every run
    load, stop = Load(gateway, chance), asyncio.Event()
    running = asyncio.create_task(load.run(stop))
    for kill in range(kills):
        async with store_is(STATES[kill % len(STATES)]):
            await asyncio.sleep(0.1 + chance.random() / 2)
            await gateway.kill_service()
            await gateway.start_service()
    stop.set()
    await running
    await everything_arrives(gateway)
    return load


async def everything_arrives(gateway: Gateway) -> None:
    """Wait until the spool has nothing but the log of the running service, and stop that."""
    spool = gateway.state / "spool"
    await until(lambda: len([one for one in spool.iterdir() if not one.name.startswith(".")]) == 1, "shipping", 60)
    await gateway.stop_service()
    assert list(spool.iterdir()) == []


def check_record(load: Load, archive: Archive, ledger: Ledger) -> None:
    """Check that every exchange of which a client saw anything is there once, with all of that, and verifies."""
    heads = [read_head(one.head) for log in ledger.logs() for one in ledger.entries(log, bodies=False)]
    ids = [head.id for head in heads if head.kind is Kind.EXCHANGE]
    assert len(ids) == len(set(ids))
    assert set(load.seen) <= set(ids)
    documents = {document["id"]: document for document in archive.exchanges()}
    outcomes: dict[str, int] = {}
    for decision_id, (question, seen) in load.seen.items():
        document = documents[decision_id]
        outcomes[document["outcome"]] = outcomes.get(document["outcome"], 0) + 1
        assert document["request"]["messages"] == [{"role": "user", "content": question}]
        assert said(document).startswith(seen), f"{decision_id} has less than its client saw"
    # The test saw what it is about: answers that were whole, refused, and cut off by the death of the service.
    assert {"completed", "denied", "interrupted"} <= set(outcomes)
    check_verified(load.gateway, ledger, len(ids))


def check_verified(gateway: Gateway, ledger: Ledger, entries: int = 0) -> None:
    """Check the evidence against the key and the witness of a gateway; there are at least so many entries."""
    keys = [load_public_key(public_path(gateway.state / "checkpoint.key"))]
    witnessed = [json.loads(line)["note"] for line in (gateway.state / "witness.log").read_text().splitlines()]
    report = verify(ledger, keys, witnessed, now=0.0, max_silence=600.0)
    assert report.faults == []
    assert sum(one.entries for one in report.logs) >= entries


def said(document: dict[str, Any]) -> str:
    """Return the text of an answer that was recorded."""
    return str((document["response"] or {}).get("text") or "")
