"""A transcript of one exchange: `Playbook() >> event << effect << effect >> event …`, wrapped in one `assert`.

It may also be one of a CONNECT: `Playbook(Tunnel(…))`. Effects must come in exactly the order written. An effect
is written as itself, as its class where the content does not matter, or as `Recording`/`Answered` where only the gist
does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extproc import policy_file
from extproc.credential import Credential
from extproc.effects import Compute, Effect, FetchCredential, Identify, Record, Respond
from extproc.endpoint import Upstream
from extproc.errors import Code
from extproc.events import (
    Computed,
    CredentialReady,
    Event,
    Headers,
    Identified,
    Recorded,
    RequestBody,
    RequestHeaders,
    ResponseHeaders,
)
from extproc.exchange import Exchange
from extproc.identity.principal import Principal
from extproc.masking.finding import Action
from extproc.masking.policy import MaskingPolicy, RuleSetPolicy
from extproc.recording.document import Outcome
from extproc.recording.session import Sessions
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.tunnel import Tunnel
from tests.detecting import masking

START = 1_760_000_000.0
STEP = 0.01
"""Seconds between two events of a transcript."""

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
UPSTREAM_TOKEN = "gho_GatewayCredential0123456789"

ALICE = Principal(
    id="https://issuer#alice",
    name="alice",
    kind="person",
    issuer="https://issuer",
    subject="alice",
    groups=frozenset({"developers"}),
)
MALLORY = replace(ALICE, id="https://issuer#mallory", name="mallory", subject="mallory", groups=frozenset())

CREDENTIAL = Credential(
    authorization=Secret(f"Bearer {UPSTREAM_TOKEN}"),
    headers={"x-github-api-version": "2025-04-01"},
    headers_if_missing={"editor-version": "copilot-extproc/0.1"},
    api_host=None,
    secrets=(Secret(UPSTREAM_TOKEN),),
)

POLICY = policy_file.load(Path(__file__).parent.parent / "extproc" / "dev" / "policy.yaml")

SECRET = "npm_aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4eF6"
"""What a rule finds: made up, in the form of a token of npm's."""
MASKED = "[MASKED:npmjsaccesstoken]"

PROMPT = b'{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}'
ANSWER = (
    b'{"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'
)
STREAM = (
    b'data: {"model":"gpt-5","choices":[{"index":0,"delta":{"role":"assistant","content":"Hello, "}}]}\n\n'
    b': a comment\n\ndata: {"choices":[{"index":0,"delta":{"content":"w\xc3\xb6rld"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,'
    b'"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)

FETCH = FetchCredential("github", Upstream.COPILOT_API)
IDENTIFY = Identify(Secret(TOKEN))


@dataclass(frozen=True, slots=True)
class Recording:
    """A `Record` in short: which entries it has, and what the closing one says."""

    opening: bool
    outcome: Outcome | None = None
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A `Respond` in short."""

    status: int
    code: Code


OPENING = Recording(opening=True)


def closing(outcome: Outcome, code: Code | None = None, *, with_opening: bool = False) -> Recording:
    return Recording(with_opening, outcome, code)


def refused(outcome: Outcome, code: Code) -> Recording:
    """Both entries at once: what ended before it was let through."""
    return Recording(opening=True, outcome=outcome, code=code)


def received(exchange: Exchange | Tunnel, event: Event, now: float) -> Iterator[Effect]:
    """Yield what an event leads to; pure work is done at once, as by the shell."""
    for effect in exchange.receive(event, now):
        if isinstance(effect, Compute):
            yield from received(exchange, Computed(effect.work()), now)
        else:
            yield effect


class Playbook:
    """Feed events to an exchange and compare what it asks for; the clock moves by `STEP` with every event."""

    def __init__(self, exchange: Exchange | Tunnel | None = None) -> None:
        self.exchange: Exchange | Tunnel = exchange or Exchange("0" * 32, rules())
        self.now = START - STEP
        self.effects: list[Effect] = []
        self._open: list[Effect] = []

    def __rshift__(self, event: Event) -> Playbook:
        assert not self._open, f"not expected: {self._open}"
        self.now += STEP
        self._open = list(received(self.exchange, event, self.now))
        self.effects += self._open
        return self

    def __lshift__(self, expected: object) -> Playbook:
        assert self._open, f"nothing was asked for, expected {expected}"
        found = self._open.pop(0)
        if isinstance(expected, type):
            assert isinstance(found, expected), found
        else:
            assert _gist(found, expected) == expected
        return self

    def __bool__(self) -> bool:
        assert not self._open, f"not expected: {self._open}"
        return True

    def skip(self, event: Event) -> Playbook:
        """Feed an event and take what follows from it as read."""
        self >> event
        self._open = []
        return self

    @property
    def entries(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the opening and the closing entry that were recorded so far."""
        records = [effect for effect in self.effects if isinstance(effect, Record)]
        openings = [one.opening for one in records if one.opening is not None]
        closings = [one.closing for one in records if one.closing is not None]
        assert len(openings) <= 1, "more than one opening"
        assert len(closings) <= 1, "more than one closing"
        return next(iter(openings), None), next(iter(closings), None)

    @property
    def opening(self) -> dict[str, Any]:
        entry, _ = self.entries
        assert entry is not None
        return entry

    @property
    def closing(self) -> dict[str, Any]:
        _, entry = self.entries
        assert entry is not None
        return entry

    def first(self, kind: type[Any]) -> Any:
        return next(effect for effect in self.effects if isinstance(effect, kind))


def _gist(effect: Effect, expected: object) -> object:
    if isinstance(effect, Record) and isinstance(expected, Recording):
        if effect.closing is None:
            return Recording(effect.opening is not None)
        error = effect.closing["error"]
        return Recording(effect.opening is not None, effect.closing["outcome"], error and error["code"])
    if isinstance(effect, Respond) and isinstance(expected, Answered):
        told = json.loads(effect.body)
        error = told.get("error", told)  # GitHub's own errors are flat
        assert (error["code"], error["decision_id"]) == (effect.details, effect.decision_id)
        assert ("x-gateway-decision-id", effect.decision_id) in effect.headers
        return Answered(effect.status, Code(effect.details))
    return effect


def rules(**changes: Any) -> Rules:
    settings: dict[str, Any] = {
        "policy": POLICY,
        "masking": masking(POLICY.masking),
        "upstream_hosts": {
            Upstream.COPILOT_API: "api.githubcopilot.com",
            Upstream.COPILOT_PROXY: "copilot-proxy.githubusercontent.com",
            Upstream.GITHUB_API: "api.github.com",
            Upstream.TELEMETRY: "copilot-telemetry.githubusercontent.com",
        },
        "max_request_bytes": 100_000,
        "max_answer_bytes": 200_000,
        "max_event_bytes": 50_000,
        "sessions": Sessions(gap_seconds=1800),
    }
    return Rules(**{**settings, **changes})


def masking_rules(prompts: Action, answers: Action) -> Rules:
    """Return rules by which secrets are treated so."""
    policy = replace(POLICY, masking=MaskingPolicy((RuleSetPolicy("secrets", None, prompts, answers),)))
    return rules(policy=policy, masking=masking(policy.masking))


def request(
    method: str = "POST",
    path: str = "/chat/completions",
    *extra: tuple[str, str],
    host: str = "127.0.0.1:8080",
    token: str | None = TOKEN,
    end_of_stream: bool = False,
    full_duplex: bool = True,
) -> RequestHeaders:
    headers: Headers = [(":method", method), (":path", path), (":authority", host), (":scheme", "http")]
    if token is not None:
        headers.append(("authorization", f"Bearer {token}"))
    return RequestHeaders([*headers, *extra], end_of_stream, "192.0.2.7:5555", full_duplex)


def response(
    status: int = 200,
    content_type: str | None = "application/json",
    *extra: tuple[str, str],
    end_of_stream: bool = False,
    details: str = "via_upstream",
) -> ResponseHeaders:
    headers: Headers = [(":status", str(status)), *extra]
    if content_type is not None:
        headers.append(("content-type", content_type))
    return ResponseHeaders(headers, end_of_stream, details == "via_upstream")


def asked(book: Playbook | None = None, body: bytes = PROMPT) -> Playbook:
    """Return a chat request up to the point where its opening entry is being recorded."""
    book = (book or Playbook()) >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(body, end_of_stream=True)
    return book << FETCH >> CredentialReady(CREDENTIAL) << OPENING


def released(book: Playbook | None = None, body: bytes = PROMPT) -> Playbook:
    """Return a chat request that was let go; the effects of that are taken as read."""
    return asked(book, body).skip(Recorded())
