"""The state machine of one CONNECT at the forward proxy. Sans-IO, like `exchange`.

A tunnel to a host whose traffic the gateway reads is opened for whoever is identified: Envoy ends its TLS, and every
request inside is an exchange of its own, decided and recorded as such. A tunnel to any other host passes untouched, if
policy lists it, and is recorded with the bytes that went through. Everything else is refused, and recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from extproc.effects import (
    Effect,
    Finish,
    Identify,
    PassRequestHeaders,
    PassResponseHeaders,
    Record,
    Respond,
)
from extproc.endings import ENDED, RECORDING, refused_by_envoy, unavailable
from extproc.endpoint import Endpoint, EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.events import (
    End,
    Ended,
    Event,
    Headers,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestHeaders,
    ResponseHeaders,
    TlsFailed,
)
from extproc.exchange import IllegalEvent, Phase
from extproc.headers import UPSTREAM_HEADER, client_facts
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.intercepted import is_intercepted
from extproc.masking.finding import Direction
from extproc.policy import Effect as PolicyEffect
from extproc.policy import Facts
from extproc.recording.document import Outcome
from extproc.recording.story import Story
from extproc.replies import DECISION_HEADER
from extproc.request import Request
from extproc.rules import Rules

INTERCEPTED = "intercepted"
"""The cluster of tunnels that are read, as `Upstream.TUNNEL` is that of the others (envoy/envoy.yaml)."""

_TARGET = re.compile(r"(?P<host>(?!-)[a-z0-9-]+(?:\.[a-z0-9-]+)*):(?P<port>[0-9]{1,5})", re.IGNORECASE | re.ASCII)
# By the last label: readers of addresses take it for a number (WHATWG URL, "ends in a number checker").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_HTTPS = "443"

_NO_IDENTITY = Refusal(
    407,
    Code.IDENTITY_MISSING,
    "This proxy wants to know who you are: use `extproc run`, or set HTTPS_PROXY=http://me:TOKEN@GATEWAY:PORT with the "
    "output of `extproc token`.",
)
_NO_CONNECT = Refusal(
    405, Code.CONNECT_REFUSED, "This port is a forward proxy that takes CONNECT alone; speak HTTPS through it."
)
_NO_HOST = Refusal(
    403, Code.CONNECT_REFUSED, "Tunnels lead to host names on port 443; not to IP addresses, nor to other ports."
)

_LEGAL: Mapping[Phase, tuple[type, ...]] = {
    # A response here is Envoy's own refusal of what it never showed us: an upgrade, a malformed request.
    Phase.NEW: (RequestHeaders, ResponseHeaders, Ended),
    Phase.IDENTIFYING: (Identified, Refused, Ended),
    Phase.OPENING: (Recorded, RecordingFailed, Ended),
    Phase.AWAITING_RESPONSE: (ResponseHeaders, Ended),
    # It is open: all that comes of it is its end.
    Phase.READING_RESPONSE: (Ended,),
    Phase.CLOSING: (Recorded, RecordingFailed, Ended),
    Phase.DONE: (Ended,),
}


class Tunnel:
    """Run one CONNECT from its headers to the durable end of its record."""

    def __init__(self, tunnel_id: str, rules: Rules) -> None:
        self.phase = Phase.NEW
        self.story = Story(tunnel_id)
        self._rules = rules
        self._shown: dict[str, str | None] = {}
        self._after_recording: list[Effect] = []
        self._opening_written = False
        self._closing_written = False
        self._ended = False

    def receive(self, event: Event, now: float) -> list[Effect]:  # noqa: PLR0911 - one line per event
        """Take what happened at `now` (unix seconds) and return what is to be done, in this order."""
        if not isinstance(event, _LEGAL[self.phase]):
            raise IllegalEvent(f"{type(event).__name__} in phase {self.phase.name} of a tunnel")
        self.story.now = now
        match event:
            case RequestHeaders():
                return self._on_connect(event)
            case Identified():
                return self._on_identified(event.principal)
            case Refused():
                return self._refuse(_of_proxy(event.refusal))
            case Recorded():
                return self._on_recorded()
            case RecordingFailed():
                return self._on_recording_failed()
            case ResponseHeaders():
                return self._on_answer(event)
            case Ended():
                return self._on_ended(event)
            case _:
                raise IllegalEvent(f"{type(event).__name__} in a tunnel")

    @property
    def released_to_upstream(self) -> bool:
        """Say whether the tunnel was let through: whatever ends it now may have been the host."""
        return self.story.timing.released is not None

    @property
    def must_hurry(self) -> bool:
        """Say no: a CONNECT has no body."""
        return False

    @property
    def may_idle(self) -> bool:
        """Say whether it is open: then nothing is heard of it until it ends."""
        return self.phase is Phase.READING_RESPONSE

    def _on_connect(self, event: RequestHeaders) -> list[Effect]:
        story = self.story
        story.opened_at, story.client_address = story.now, event.client_address
        fields = dict(event.headers)
        authority = fields.get(":authority", "")
        target = _TARGET.fullmatch(authority)
        host = target["host"].lower() if target else ""
        self.phase = Phase.IDENTIFYING
        method = fields.get(":method", "")
        self._shown = _note_request(story, event.headers, self._rules, method=method, host=host, authority=authority)
        if method != "CONNECT":
            return self._refuse(_NO_CONNECT)
        values = [value for name, value in event.headers if name == "proxy-authorization"]
        if not values:
            return self._refuse(_NO_IDENTITY)
        token = present([], path="", connect_authorization=values[0] if len(values) == 1 else "")
        if isinstance(token, Refusal):
            return self._refuse(_of_proxy(token))
        if target is None or target["port"] != _HTTPS or _NUMBER.fullmatch(host.rpartition(".")[2]):
            return self._refuse(_NO_HOST)
        return [Identify(token)]

    def _on_identified(self, principal: Principal) -> list[Effect]:
        self.story.principal = principal
        host = self._request().host
        if is_intercepted(host, self._rules.intercepted):
            # Nothing leaves because of it, and what is inside is recorded; clients open many that they never use.
            self.phase = Phase.DONE
            self.story.status = 200
            self.story.completed()
            return [self._pass(INTERCEPTED), Finish()]
        facts = Facts(EndpointKind.TUNNEL, Upstream.TUNNEL, "CONNECT", host, "")
        self.story.decision = self._rules.policy.decide(principal, facts)
        match self.story.decision.effect:
            case PolicyEffect.ALLOW:
                self.phase = Phase.OPENING
                self._after_recording = [self._pass(Upstream.TUNNEL)]
                return [Record(self._opening(), None)]
            case PolicyEffect.DENY:
                reason = f"{self.story.decision.reason} Tunnels to this host are not open: policy does not list it."
                return self._refuse(Refusal(403, Code.POLICY_DENIED, reason))
            case _:
                assert_never(self.story.decision.effect)

    def _pass(self, cluster: str) -> PassRequestHeaders:
        # The filters behind ours note who opened the tunnel under its decision id (envoy/envoy.yaml).
        return PassRequestHeaders([(UPSTREAM_HEADER, cluster), (DECISION_HEADER, self.story.id)], [], self.story.id)

    def _on_answer(self, event: ResponseHeaders) -> list[Effect]:
        status = int(dict(event.headers).get(":status", "0"))
        if self.phase is Phase.NEW:
            # There is no request to record, only Envoy's access log has it.
            self.phase = Phase.DONE
            refusal = refused_by_envoy(status)
            self.story.refused(refusal)
            return [self._respond(refusal), Finish()]
        self.story.timing.response_headers = self.story.elapsed()
        self.story.status = status
        # Any 2xx opens the tunnel (RFC 9110 section 9.3.6).
        if status // 100 != 2:
            return self._refuse(unavailable(status))
        self.phase = Phase.READING_RESPONSE
        return [PassResponseHeaders([(DECISION_HEADER, self.story.id)], [])]

    def _on_ended(self, event: Ended) -> list[Effect]:
        self._ended = True
        if self.phase in {Phase.NEW, Phase.DONE} or self._closing_written:
            self.phase = Phase.DONE
            return []
        story = self.story
        story.tunnelled = {"received": event.received, "sent": event.sent}
        was_open = self.phase is Phase.READING_RESPONSE
        if was_open and event.end in {End.CLIENT, End.UPSTREAM, End.ENVOY}:
            # Either side may hang up when it likes: that is how tunnels end.
            story.completed()
        else:
            story.outcome, story.refusal = ENDED[event.end]
            story.status = story.status if was_open else story.refusal.status
        self._after_recording = []
        return [self._closing()]

    def _refuse(self, refusal: Refusal) -> list[Effect]:
        self.story.refused(refusal)
        self.story.status = refusal.status
        self._after_recording = [self._respond(refusal), Finish()]
        return [self._closing()]

    def _respond(self, refusal: Refusal) -> Respond:
        headers = [("content-type", "application/json"), (DECISION_HEADER, self.story.id)]
        if refusal.status == 407:
            headers.append(("proxy-authenticate", 'Basic realm="copilot-extproc"'))
        if refusal.status == 405:
            headers.append(("allow", "CONNECT"))  # RFC 9110 section 15.5.6
        error = {"message": refusal.message, "type": "gateway_error", "code": refusal.code}
        body = json.dumps({"error": {**error, "decision_id": self.story.id}}).encode()
        return Respond(refusal.status, headers, body, refusal.code, self.story.id)

    def _closing(self) -> Record:
        self.phase = Phase.CLOSING
        self._closing_written = True
        return Record(None if self._opening_written else self._opening(), self.story.closing())

    def _opening(self) -> dict[str, Any]:
        self._opening_written = True
        return self.story.opening(self._rules.sessions, self._rules.policy.digest, self._shown)

    def _on_recorded(self) -> list[Effect]:
        effects, self._after_recording = self._after_recording, []
        if self.phase is Phase.OPENING:
            self.story.timing.released = self.story.elapsed()
            self.phase = Phase.AWAITING_RESPONSE
        else:
            self.phase = Phase.DONE
        return effects

    def _on_recording_failed(self) -> list[Effect]:
        self.story.refusal, self.story.outcome = RECORDING, Outcome.FAILED
        self.phase = Phase.DONE
        return [] if self._ended else [self._respond(RECORDING), Finish()]

    def _request(self) -> Request:
        if self.story.request is None:
            raise IllegalEvent("no CONNECT yet")
        return self.story.request


def tls_failure(
    failure_id: str, failure: TlsFailed, principal: Principal | None, rules: Rules, now: float
) -> tuple[Story, Record]:
    """Return what is to be recorded of a client that opened a tunnel and then could not agree on TLS with us."""
    story, authority = Story(failure_id), failure.connect.authority
    story.opened_at = story.now = now
    story.client_address, story.principal = failure.client_address, principal
    host = authority.rpartition(":")[0].lower()
    shown = _note_request(story, [], rules, method="CONNECT", host=host, authority=authority)
    story.outcome = Outcome.FAILED
    story.refusal = Refusal(
        502,
        Code.CONNECT_TLS,
        f"TLS inside the tunnel failed ({failure.reason}): does the client trust the gateway's CA?",
    )
    return story, Record(story.opening(rules.sessions, rules.policy.digest, shown), story.closing())


def _note_request(
    story: Story, headers: Headers, rules: Rules, *, method: str, host: str, authority: str
) -> dict[str, str | None]:
    """Note what was asked for; return what the record says in place of what may hold a secret."""
    story.endpoint = Endpoint(EndpointKind.TUNNEL, Upstream.TUNNEL, "")
    story.request = Request(
        headers=headers,
        method=method,
        host=host,
        target=authority,
        path=authority,
        upstream=Upstream.TUNNEL,
        model_endpoint=None,
        client=client_facts(headers),
    )
    masker = rules.masking.masker(Direction.PROMPT)
    shown = masker.text(authority, "path")
    story.findings += masker.findings
    return {"path": shown, **({} if shown == authority else {"host": shown}), "repository": None}


def _of_proxy(refusal: Refusal) -> Refusal:
    # RFC 9110 section 15.5.8: what 401 is to a server, 407 is to a proxy.
    return replace(refusal, status=407) if refusal.status == 401 else refusal
