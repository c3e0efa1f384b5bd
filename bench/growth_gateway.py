"""A gateway in this process, without Envoy and without a transport: real exchange, tokens, masking and spool."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from extproc.config import Limits
from extproc.effects import (
    Compute,
    Effect,
    FetchCredential,
    Finish,
    Identify,
    PassResponseBody,
    PassResponseHeaders,
    Record,
)
from extproc.events import (
    Computed,
    CredentialReady,
    Event,
    Identified,
    Recorded,
    RequestBody,
    ResponseBody,
)
from extproc.exchange import Exchange, Phase
from extproc.identity.issuers import oidc
from extproc.identity.principal import Principal
from extproc.keys.verifier import Verifier
from extproc.metrics import Metrics
from extproc.metrics_labels import labels_of
from extproc.recording.document import Outcome
from extproc.recording.entry import Chain
from extproc.recording.session import Sessions
from extproc.rules import Rules
from extproc.spool.sealing import Sealer
from extproc.spool.spool import Spool, SpoolBounds
from extproc.tracing.lines import proposed_fingerprints
from tests import playbook

_KEY: Final = bytes(range(32))
_LOG: Final = "growth.0.1"
_START: Final = 1_760_000_000.0
_TICK: Final = 1e-6
"""The clock goes on by so many seconds whenever it is read: nothing grows old while thousands are made."""
_SPOOL_BYTES: Final = 8 << 30
_REQUEST_BYTES: Final = 16_384
_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Chat:
    """An exchange to run: the prompt, and the answer in the pieces in which it arrives."""

    prompt: bytes
    content_type: str
    pieces: Sequence[bytes]
    session: str | None = None


class Gateway:
    """Run exchanges as the service does; its clock is its own, so that nothing expires while it is measured."""

    def __init__(self, rules: Rules, folder: Path) -> None:
        self.rules = rules
        self.metrics = Metrics(labels_of(rules.policy))
        self.completed = 0
        self._verifier: Verifier | None = None
        self._time = _START
        self._count = 0
        sealer = Sealer(Chain(_LOG), lines=lambda one: proposed_fingerprints(one["response"], _KEY, one["request"]))
        # Nothing is shipped, so it must hold all that is measured.
        bounds = SpoolBounds(max_bytes=_SPOOL_BYTES)
        self.spool = Spool(folder, _LOG, sealer, bounds=bounds, now=self.now)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = ""

    def now(self) -> float:
        """Return the time, which goes on a little with every look at it."""
        self._time += _TICK
        return self._time

    def token(self, subject: str) -> str:
        """Return a token of a developer."""
        claims = {"iss": self._issuer, "sub": subject, "aud": "gateway", "iat": _START, "exp": _START + 86_400}
        return jwt.encode({**claims, "groups": ["developers"]}, self._key, "ES256", {"kid": "growth"})

    async def serve_keys(self, stack: AsyncExitStack) -> None:
        """Verify tokens from now on, by a key that is fetched as any issuer's is."""

        async def keys(_request: web.Request) -> web.Response:
            public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
            return web.json_response({"keys": [{**public, "kid": "growth", "use": "sig", "alg": "ES256"}]})

        app = web.Application()
        app.router.add_get("/keys", keys)
        server = await stack.enter_async_context(TestServer(app))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        self._issuer = str(server.make_url("")).rstrip("/")
        trusted = oidc(self._issuer, audiences=["gateway"], jwks_url=f"{self._issuer}/keys")
        self._verifier = Verifier([trusted], session=session, now=self.now)
        stack.push_async_callback(self._verifier.aclose)

    async def ask(self, token: str, chat: Chat) -> None:
        """Run an exchange from its first to its last message."""
        exchange = await self.opened(token, chat)
        for piece in chat.pieces:
            await self.drive(exchange, ResponseBody(piece, end_of_stream=False))
        await self.drive(exchange, ResponseBody(b"", end_of_stream=True))
        if exchange.phase is not Phase.DONE or exchange.story.outcome is not Outcome.COMPLETED:
            raise AssertionError(f"an exchange ended as {exchange.story.outcome}, {exchange.story.refusal}")
        self.completed += 1

    async def opened(self, token: str, chat: Chat) -> Exchange:
        """Return an exchange whose request was let go, and whose answer begins."""
        self._count += 1
        exchange = Exchange(f"{self._count:032x}", self.rules)
        named = () if chat.session is None else (("x-client-session-id", chat.session),)
        await self.drive(exchange, playbook.request("POST", "/chat/completions", *named, token=token))
        prompt = chat.prompt
        for at in range(0, len(prompt), _REQUEST_BYTES):
            piece = prompt[at : at + _REQUEST_BYTES]
            await self.drive(exchange, RequestBody(piece, end_of_stream=at + _REQUEST_BYTES >= len(prompt)))
        await self.drive(exchange, playbook.response(200, chat.content_type))
        return exchange

    async def drive(self, exchange: Exchange, event: Event) -> None:
        """Give an exchange an event, and every event that follows."""
        todo = deque(exchange.receive(event, self.now()))
        while todo:
            result = await self._run(exchange, todo.popleft())
            if result is not None:
                todo.extend(exchange.receive(result, self.now()))

    async def _run(self, exchange: Exchange, effect: Effect) -> Event | None:
        story = exchange.story
        match effect:
            case Identify():
                return Identified(await self._principal(effect))
            case FetchCredential():
                return CredentialReady(playbook.CREDENTIAL)
            case Compute():
                return Computed(effect.work())
            case Record():
                await self.spool.append(effect.opening, effect.closing)
                return Recorded()
            case PassResponseHeaders():
                self.spool.answering(story.id, story.status or 0, story.content_type)
            case PassResponseBody():
                self.spool.piece(story.id, story.elapsed(), effect.data)
            case Finish():
                self.metrics.observe(story, self.now())
            case _:
                pass
        return None

    async def _principal(self, effect: Identify) -> Principal:
        if self._verifier is None:
            raise RuntimeError("no keys are served")
        return self._verifier.cached(effect.token) or await self._verifier.verify(effect.token)


@asynccontextmanager
async def gateway(folder: Path, **changes: Any) -> AsyncIterator[Gateway]:  # noqa: ANN401 - settings of `Rules`
    """Run a gateway with the bounds that a configuration has by default, and the development policy unless changed."""
    limits = Limits()
    rules = playbook.rules(
        max_request_bytes=limits.max_request_bytes,
        max_answer_bytes=limits.max_answer_bytes,
        max_event_bytes=limits.max_event_bytes,
        sessions=Sessions(gap_seconds=limits.session_gap_seconds),
        **changes,
    )
    one = Gateway(rules, folder)
    async with AsyncExitStack() as stack:
        await one.serve_keys(stack)
        try:
            yield one
        finally:
            await one.spool.aclose()
            one.spool.release()


async def at_once(works: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run some work, a few at a time: what is recorded together is flushed together."""
    waiting = iter(works)

    async def one_after_the_other() -> None:
        for work in waiting:
            await work()

    await asyncio.gather(*(one_after_the_other() for _ in range(min(_AT_ONCE, len(works)))))
