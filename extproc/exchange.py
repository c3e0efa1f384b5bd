"""The state machine of one HTTP exchange: the only place that knows the order of things.

Sans-IO: `receive` takes what happened and returns what is to be done, in order; time and everything that needs the
outside are arguments or events. The request is held until it is identified, decided, given its credential and recorded;
the end of the response is held until the record is closed. docs/architecture.md has the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum, auto
from functools import partial
from typing import Any, assert_never

from extproc import errors, telemetry
from extproc.account import TOKEN_PATH, endpoints_for, token_answer
from extproc.approval.approval import Request as Approvers
from extproc.approval.hold import Hold
from extproc.approval.proposal import of_answer, of_request
from extproc.approval.touch import Touch
from extproc.conversation import Answer
from extproc.credential import Credential
from extproc.dialect.port import BadRequest, Form
from extproc.echo import without_secrets
from extproc.effects import (
    Ask,
    Compute,
    Effect,
    Fail,
    FetchCredential,
    Finish,
    Identify,
    PassResponseBody,
    PassResponseHeaders,
    Record,
    Respond,
)
from extproc.endings import (
    ENDED,
    INCOMPLETE,
    RECORDING,
    RENEWAL,
    UNKNOWN_ENDPOINT,
    blocked,
    refused_by_envoy,
    unavailable,
)
from extproc.endpoint import MODEL_ENDPOINTS, UNREAD, Endpoint, EndpointKind
from extproc.errors import Code, Refusal
from extproc.events import (
    Computed,
    CredentialReady,
    Decided,
    End,
    Ended,
    Event,
    Headers,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Tick,
)
from extproc.identity.gateway_token import is_gateway_token
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.inspection import Inspected, amendment, inspected, masked_head
from extproc.masking.finding import Direction
from extproc.masking.masker import Masker
from extproc.policy import Effect as PolicyEffect
from extproc.policy import Facts
from extproc.recording.document import Outcome
from extproc.recording.story import Story
from extproc.release import pieces, released_end, released_headers, released_request
from extproc.replies import own_answer, refusal_reply
from extproc.request import Request, misdirected, read_request
from extproc.response import Body, body_for
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.signin.profile import WELL_KNOWN

_CONTENT_TYPE_CHARS = 200
"""So much of an upstream's content type is recorded."""

_PROFILE = ("GET", WELL_KNOWN)


# An `Enum` would do, but its members take Python code to be found in a table, and this is done for every event.
class Phase(IntEnum):
    """Where an exchange stands; `_LEGAL` says what may happen there."""

    NEW = auto()
    IDENTIFYING = auto()
    READING_REQUEST = auto()
    INSPECTING_REQUEST = auto()
    HOLDING_REQUEST = auto()
    FETCHING_CREDENTIAL = auto()
    OPENING = auto()
    AWAITING_RESPONSE = auto()
    READING_RESPONSE = auto()
    INSPECTING_RESPONSE = auto()
    HOLDING_RESPONSE = auto()
    CLOSING = auto()
    DONE = auto()


_LEGAL: Mapping[Phase, tuple[type, ...]] = {
    # A response here is Envoy's own refusal of what it never showed us: an upgrade, a malformed request.
    Phase.NEW: (RequestHeaders, ResponseHeaders, Ended),
    Phase.IDENTIFYING: (Identified, Refused, Ended),
    # A response here is Envoy's own, say when the client sends too slowly.
    Phase.READING_REQUEST: (RequestBody, RequestTrailers, ResponseHeaders, Ended),
    Phase.INSPECTING_REQUEST: (Computed, Ended),
    # Approvers are asked; a response here is Envoy's own again.
    Phase.HOLDING_REQUEST: (Decided, Tick, ResponseHeaders, Ended),
    Phase.FETCHING_CREDENTIAL: (CredentialReady, Refused, Ended),
    Phase.OPENING: (Recorded, RecordingFailed, Ended),
    Phase.AWAITING_RESPONSE: (ResponseHeaders, Ended),
    # Approvers may be asked about what came so far while more comes.
    Phase.READING_RESPONSE: (ResponseBody, ResponseTrailers, Decided, Tick, Ended),
    Phase.INSPECTING_RESPONSE: (Computed, Ended),
    Phase.HOLDING_RESPONSE: (Decided, Tick, Ended),
    Phase.CLOSING: (Recorded, RecordingFailed, Ended),
    Phase.DONE: (Ended,),
}


class IllegalEvent(Exception):
    """Say that an event came where it must not; the exchange has to fail."""


class Exchange:
    """Run one exchange from its request headers to the durable end of its record."""

    def __init__(self, exchange_id: str, rules: Rules) -> None:
        self.phase = Phase.NEW
        self.story = Story(exchange_id)
        self._rules = rules
        self._shown: dict[str, str | None] = {"path": "", "repository": None}
        self._has_body = False
        self._request_pieces: list[bytes] = []
        self._request_body = b""
        """The whole body, once it is: then as it may go on."""
        self._request_trailers: list[str] | None = None
        self._credential: Credential | None = None
        self._opening_written = False
        self._closing_written = False
        self._after_recording: list[Effect] = []
        self._response_headers: Headers = []
        self._body: Body | None = None
        self._masker: Masker | None = None
        self._blocked: str | None = None
        self._response_trailers: list[str] | None = None
        self._hold: Hold | None = None
        self._misdirected: Refusal | None = None
        self._has_slot = False
        """Whether it is one of the few exchanges of telemetry."""
        self._is_renewal = False
        """Whether the token is one that the gateway minted itself: it buys no other."""
        self._turned_down: Refusal | None = None
        self._ended = False
        self._answering = False
        """Whether response headers went to the client: from then on there is no other answer to give."""

    def receive(self, event: Event, now: float) -> list[Effect]:  # noqa: C901, PLR0911, PLR0912 - one line per event
        """Take what happened at `now` (unix seconds) and return what is to be done, in this order.

        Raises IllegalEvent where the event is not one of this phase; the caller then fails the stream.
        """
        if not isinstance(event, _LEGAL[self.phase]):
            raise IllegalEvent(f"{type(event).__name__} in phase {self.phase.name}")
        self.story.now = now
        match event:
            case ResponseBody():
                return self._on_response_body(event.data, end_of_stream=event.end_of_stream)
            case RequestBody():
                return self._on_request_body(event.data, end_of_stream=event.end_of_stream)
            case RequestHeaders():
                return self._on_request_headers(event)
            case RequestTrailers():
                self._request_trailers = event.names
                return self._on_request_body(b"", end_of_stream=True)
            case ResponseHeaders():
                return self._on_response_headers(event)
            case ResponseTrailers():
                return self._on_response_end(event.names)
            case Identified():
                return self._on_identified(event.principal)
            case Computed():
                return self._on_computed(event.result)
            case CredentialReady():
                return self._on_credential(event.credential)
            case Refused():
                return self._refuse(event.refusal)
            case Recorded():
                return self._on_recorded()
            case RecordingFailed():
                return self._on_recording_failed()
            case Decided():
                return self._on_decided(event)
            case Tick():
                return self._sign_of_life()
            case Ended():
                return self._on_ended(event.end)
            case _:
                assert_never(event)

    @property
    def may_idle(self) -> bool:
        """Say no: something is always due, be it a sign of life while approvers think."""
        return False

    @property
    def must_hurry(self) -> bool:
        """Say whether it keeps one of the few exchanges of telemetry while its body arrives."""
        return self._has_slot and self.phase is Phase.READING_REQUEST

    @property
    def released_to_upstream(self) -> bool:
        """Say whether the request was let go: whatever ends the exchange now may have been the upstream."""
        return self.story.timing.released is not None

    # --- the request ---------------------------------------------------------------------------------------------

    def _on_request_headers(self, event: RequestHeaders) -> list[Effect]:
        self.story.opened_at = self.story.now
        self.story.client_address = event.client_address
        self._has_body = not event.end_of_stream
        self.story.request, fault = read_request(event.headers)
        self.story.endpoint = self.story.request.model_endpoint
        self.story.tunnel = None if event.connect is None else event.connect.id
        # From here on there is something to record.
        self.phase = Phase.IDENTIFYING
        self._shown, found = masked_head(self.story.request, self._rules)
        self.story.findings += found
        if not event.full_duplex:
            # In any other mode bytes would pass that were not released here: refuse to be part of it.
            self.phase = Phase.DONE
            return [Fail(Code.GATEWAY_PROTOCOL)]
        if fault is not None:
            return self._refuse(fault)
        # Told once it is known who asks.
        self._misdirected = misdirected(self.story.request, event.server_name, event.connect)
        if self._rules.profile is not None and (self.story.request.method, self.story.request.path) == _PROFILE:
            return self._answer(self._rules.profile)
        return self._ask_who(event)

    def _ask_who(self, event: RequestHeaders) -> list[Effect]:
        connect = None if event.connect is None else event.connect.authorization.reveal()
        if connect is None and self.story.endpoint is not None and self.story.endpoint.kind is EndpointKind.TELEMETRY:
            # Clients send it without a token, on purpose.
            return self._read_request(self.story.endpoint)
        token = present(event.headers, path=self._head().path, connect_authorization=connect)
        if isinstance(token, Refusal):
            return self._refuse(token)
        self._is_renewal = is_gateway_token(token.reveal())
        return [Identify(token)]

    def _on_identified(self, principal: Principal) -> list[Effect]:
        self.story.principal = principal
        if self._misdirected is not None:
            return self._refuse(self._misdirected)
        request = self._head()
        if self.story.endpoint is None:
            if not self._rules.policy.is_metadata(request.method, request.upstream, request.path):
                return self._refuse(UNKNOWN_ENDPOINT)
            self.story.endpoint = Endpoint(EndpointKind.METADATA, request.upstream, request.path)
        return self._read_request(self.story.endpoint)

    def _read_request(self, endpoint: Endpoint) -> list[Effect]:
        if endpoint.kind is EndpointKind.TELEMETRY:
            self._has_slot = self._rules.policy.telemetry == "pass" and self._rules.telemetry.take()
            if not self._has_slot:
                return self._keep_telemetry()
        self.phase = Phase.READING_REQUEST
        return [] if self._has_body else self._inspect(endpoint)

    def _keep_telemetry(self) -> list[Effect]:
        """Answer so that the client stays calm; nobody reads what goes nowhere."""
        is_blocked = self._rules.policy.telemetry == "block"
        self.story.decision = telemetry.BLOCKED if is_blocked else telemetry.PASSED
        self.story.refused(telemetry.BLOCKING if is_blocked else telemetry.CROWDED)
        return self._answer(telemetry.kept_answer(self._head().method))

    def _on_request_body(self, data: bytes, *, end_of_stream: bool) -> list[Effect]:
        self._request_pieces.append(data)
        self.story.request_bytes += len(data)
        limit = self._rules.max_request_bytes
        if self._has_slot:
            limit = min(limit, telemetry.MAX_BYTES)
        if self.story.request_bytes > limit:
            return self._refuse(
                Refusal(413, Code.REQUEST_TOO_LARGE, f"The request body is larger than the {limit} bytes allowed.")
            )
        if not end_of_stream or self.story.endpoint is None:
            return []
        return self._inspect(self.story.endpoint)

    def _inspect(self, endpoint: Endpoint) -> list[Effect]:
        self.phase = Phase.INSPECTING_REQUEST
        body = b"".join(self._request_pieces)
        self._request_pieces.clear()
        masker = self._rules.masking.masker(Direction.PROMPT)
        masker.at = self.story.elapsed()
        encoding = self._head().field("content-encoding")
        work = partial(inspected, body, encoding, endpoint.kind, self._rules, masker)
        return [Compute(work, len(body), apart=self._has_slot)]

    def _on_computed(self, result: object) -> list[Effect]:
        if self.phase is Phase.INSPECTING_RESPONSE:
            if not isinstance(result, bytes | Refusal):
                raise IllegalEvent("an inspection without a body")
            return self._on_whole(result)
        if isinstance(result, BadRequest):
            return self._refuse(Refusal(400, Code.REQUEST_BODY, f"The request body is refused: {result}."))
        if not isinstance(result, Inspected) or self.story.endpoint is None:
            raise IllegalEvent("an inspection without a request")
        self._request_body = result.body
        self.story.prompt, self.story.gist = result.prompt, result.gist
        self.story.note_masking(result.masker)
        self._blocked = result.masker.blocked
        return self._decide(self.story.endpoint)

    def _decide(self, endpoint: Endpoint) -> list[Effect]:
        if endpoint.kind is EndpointKind.TELEMETRY:
            self.story.decision = telemetry.PASSED
            if self._blocked is not None:
                return self._refuse(blocked(self._blocked))
            return self._on_allowed(endpoint, None)
        request = self._head()
        prompt = self.story.prompt
        facts = Facts(
            endpoint=endpoint.kind,
            upstream=endpoint.upstream,
            method=request.method,
            host=request.host,
            path=endpoint.path,
            # What the path names is what answers, whatever the body says.
            model=endpoint.model or (None if prompt is None else prompt.model),
            repository=request.repository,
        )
        if self.story.principal is None:
            raise IllegalEvent("a decision without a principal")
        self.story.decision = self._rules.policy.decide(self.story.principal, facts)
        match self.story.decision.effect:
            case PolicyEffect.ALLOW:
                if self._blocked is not None:
                    return self._refuse(blocked(self._blocked))
                self._hold = self._make_hold(facts)
                return self._on_judged(self._judge_request(endpoint))
            case PolicyEffect.DENY:
                return self._refuse(
                    Refusal(_denial_status(endpoint.kind), Code.POLICY_DENIED, self.story.decision.reason)
                )
            case _:
                assert_never(self.story.decision.effect)

    def _make_hold(self, facts: Facts) -> Hold | None:
        policy, principal = self._rules.policy, self.story.principal
        if principal is None or not policy.protects(principal, facts):
            return None
        return Hold(
            policy=policy,
            principal=principal,
            facts=facts,
            exchange=self.story.id,
            session=self.story.session(self._rules.sessions),
            address=self.story.client_address,
            status=_denial_status(facts.endpoint),
            masked=lambda text: self._rules.masking.masker(Direction.PROMPT).text(text, "path"),
        )

    def _judge_request(self, endpoint: Endpoint) -> Approvers | Refusal | None:
        if self._hold is None:
            return None
        request = self._head()
        path = endpoint.path + request.target[len(request.path) :]
        proposal = of_request(request.method, path, self._request_body, endpoint.kind)
        if proposal is not None:
            # The body is masked already; the path goes on as it is, and so is masked only where it is shown.
            text = self._rules.masking.masker(Direction.PROMPT).text(proposal.text, "path", form=Form.JSON)
            proposal = replace(proposal, text=text)
        return self._hold.consider(proposal, self.story.now)

    def _on_judged(self, outcome: Approvers | Refusal | None) -> list[Effect]:
        """Go on with a request that was judged: ask, refuse it, or let it take its way."""
        if isinstance(outcome, Approvers):
            self.phase = Phase.HOLDING_REQUEST
            return [Ask(outcome)]
        if isinstance(outcome, Refusal):
            return self._refuse(outcome)
        if self.story.endpoint is None or self.story.decision is None:
            raise IllegalEvent("a judgement without a decision")
        return self._on_allowed(self.story.endpoint, self.story.decision.credential)

    def _on_allowed(self, endpoint: Endpoint, credential: str | None) -> list[Effect]:
        if endpoint.kind is EndpointKind.ACCOUNT and endpoint.path == TOKEN_PATH:
            return self._mint()
        if credential is None:
            return self._open()
        self.phase = Phase.FETCHING_CREDENTIAL
        return [FetchCredential(credential, endpoint.upstream)]

    def _mint(self) -> list[Effect]:
        """Answer with a token of the gateway for who is identified, so that GitHub's stays here."""
        tokens, principal = self._rules.gateway_tokens, self.story.principal
        if tokens is None or principal is None:
            return self._refuse(UNKNOWN_ENDPOINT)
        if self._is_renewal:
            return self._refuse(RENEWAL)
        try:
            minted = tokens.mint(principal, self.story.now, self.story.id)
        except errors.Refused as refused:
            return self._refuse(refused.refusal)
        return self._answer(token_answer(minted, endpoints_for(self._head(), self._rules.url)))

    def _on_credential(self, credential: Credential) -> list[Effect]:
        self._credential = credential
        return self._open()

    def _open(self) -> list[Effect]:
        self.phase = Phase.OPENING
        self._after_recording = self._release_request()
        return [Record(self._opening_entry(), None)]

    def _release_request(self) -> list[Effect]:
        if self.story.endpoint is None:
            raise IllegalEvent("a release without an endpoint")
        return released_request(
            self._head(),
            self.story.endpoint,
            self._credential,
            self._rules,
            body=self._request_body if self._has_body else None,
            trailers=self._request_trailers,
            decision_id=self.story.id,
        )

    # --- the response --------------------------------------------------------------------------------------------

    def _on_response_headers(self, event: ResponseHeaders) -> list[Effect]:
        fields = dict(event.headers)
        status = int(fields.get(":status", "0"))
        if self.phase is Phase.NEW and not event.from_upstream:
            return self._on_refused_by_envoy(status)
        self.story.timing.response_headers = self.story.elapsed()
        self.story.status = status
        if not event.from_upstream:
            # While the request is read Envoy objects to the client, say to a body that is no HTTP.
            reading = self.phase in {Phase.READING_REQUEST, Phase.HOLDING_REQUEST}
            return self._refuse(refused_by_envoy(status) if reading else unavailable(status))
        if self.phase is not Phase.AWAITING_RESPONSE:
            raise IllegalEvent("an upstream answered a request that was not released")
        self.story.upstream_status = status
        chosen = self._choose_body(event.headers, status, fields.get("content-type"))
        if isinstance(chosen, Refusal):
            return self._refuse(chosen)
        self._body = chosen
        self.phase = Phase.READING_RESPONSE
        if event.end_of_stream:
            nothing = chosen.finish(self.story.elapsed())
            return (
                self._refuse(nothing) if isinstance(nothing, Refusal) else self._close([self._pass_response_headers()])
            )
        if chosen.holds:
            return []
        self._answering = True
        return [self._pass_response_headers(remove=["content-length"])]

    def _choose_body(self, headers: Headers, status: int, content_type: str | None) -> Body | Refusal:
        story = self.story
        self._response_headers = headers
        if content_type is not None:
            story.content_type = without_secrets(content_type, self._secrets())[:_CONTENT_TYPE_CHARS]
        if status == 401:
            # It is the gateway's credential that was refused: a 401 would send the developer to sign in again.
            return Refusal(502, Code.CREDENTIAL_REFUSED, "GitHub refused the gateway's credential; tell its operator.")
        if story.endpoint is None:
            raise IllegalEvent("an answer without an endpoint")
        self._masker = self._rules.masking.masker(Direction.ANSWER, self._secrets())
        return body_for(
            headers,
            status,
            story.endpoint.kind,
            self._rules.dialects[story.endpoint.kind],
            self._masker,
            timing=story.timing,
            max_bytes=self._rules.max_answer_bytes,
            max_event_bytes=self._rules.max_event_bytes,
            amend=amendment(self._head(), story.endpoint, story.principal, self._rules),
            is_privileged=self._privileged(story.endpoint),
        )

    def _privileged(self, endpoint: Endpoint) -> Callable[[Touch], bool] | None:
        """Return what says of a touch whether policy protects it, where a model may propose any."""
        hold = self._hold
        if hold is None or endpoint.kind not in MODEL_ENDPOINTS:
            return None
        return lambda touch: bool(hold.policy.judge(hold.principal, hold.facts, [touch]))

    def _on_refused_by_envoy(self, status: int) -> list[Effect]:
        # There are no request headers, so there is nothing to record but Envoy's access log line.
        self.phase = Phase.DONE
        refusal = refused_by_envoy(status)
        self.story.refused(refusal)
        return [self._respond(refusal), Finish()]

    def _on_response_body(self, data: bytes, *, end_of_stream: bool) -> list[Effect]:
        self.story.response_bytes += len(data)
        released = self._reader().feed(data, self.story.elapsed())
        if isinstance(released, Refusal):
            return self._refuse(released)
        effects = self._pass(released)
        return effects + (self._on_response_end(None) if end_of_stream else self._judge_answer())

    def _pass(self, data: bytes) -> list[Effect]:
        parts = pieces(data) if self._answering else []
        return [PassResponseBody(piece, end_of_stream=False) for piece in parts]

    def _on_response_end(self, trailers: list[str] | None) -> list[Effect]:
        body, at = self._reader(), self.story.elapsed()
        self._response_trailers = trailers
        if body.holds:
            self.phase = Phase.INSPECTING_RESPONSE
            return [Compute(lambda: body.finish(at), body.held_bytes())]
        return self._on_whole(body.finish(at))

    def _on_whole(self, tail: bytes | Refusal) -> list[Effect]:
        """Take the end of an answer that is whole now: let it go, or keep it until it is judged."""
        if isinstance(tail, Refusal):
            return self._refuse(tail)
        self.phase = Phase.HOLDING_RESPONSE
        hold = self._hold
        if hold is not None and hold.waiting is not None:
            return self._pass(tail)
        said = self._reader().asks()
        if hold is None or said is None:
            return self._on_tail(tail)
        outcome = hold.consider(of_answer(said), self.story.now)
        if not isinstance(outcome, Approvers):
            return self._on_tail(tail + self._judged(outcome))
        effects = self._pass(tail)
        if not self._answering:
            # Clients are more patient with bodies than with headers.
            self._answering = True
            effects = [self._pass_response_headers(remove=["content-length"])]
        return [*effects, Ask(outcome)]

    # --- approval of what an answer proposes -----------------------------------------------------------------------

    def _judge_answer(self) -> list[Effect]:
        """Judge what is kept of an answer, once it is known and nobody is asked yet."""
        hold = self._hold
        if hold is None or hold.waiting is not None:
            return []
        said = self._reader().asks()
        if said is None:
            return self._on_answer_judged(None) if self.phase is Phase.HOLDING_RESPONSE else []
        return self._on_answer_judged(hold.consider(of_answer(said), self.story.now))

    def _on_answer_judged(self, outcome: Approvers | Refusal | None) -> list[Effect]:
        if isinstance(outcome, Approvers):
            return [Ask(outcome)]
        released = self._judged(outcome)
        return self._on_tail(released) if self.phase is Phase.HOLDING_RESPONSE else self._pass(released)

    def _judged(self, refusal: Refusal | None) -> bytes:
        """Return what goes on of an answer that was kept: all of it, or an end in its place."""
        body, at = self._reader(), self.story.elapsed()
        if refusal is None:
            return body.release(at)
        self._turned_down = refusal
        return body.refuse(refusal.message, at)

    def _on_decided(self, event: Decided) -> list[Effect]:
        if self._hold is None or self._hold.waiting is None:
            raise IllegalEvent("a verdict nobody waits for")
        outcome = self._hold.decided(event.approval, event.why, self.story.now)
        if self.phase is Phase.HOLDING_REQUEST:
            return self._on_judged(outcome)
        # More may have come since it was asked: what passes is judged as it is now.
        return self._judge_answer() if outcome is None else self._on_answer_judged(outcome)

    def _sign_of_life(self) -> list[Effect]:
        """Keep a client from giving up: a comment in a stream (WHATWG HTML, 9.2.7), a blank before JSON."""
        if not self._answering or self._hold is None or self._hold.waiting is None:
            return []
        return self._pass(b" " if self._reader().holds else b": waiting for approval\n\n")

    def _on_tail(self, tail: bytes) -> list[Effect]:
        effects: list[Effect] = []
        if not self._answering:
            effects = [self._pass_response_headers(("content-length", str(len(tail))))]
        return self._close(effects + released_end(tail, self._response_trailers))

    def _close(self, release: list[Effect]) -> list[Effect]:
        self._conclude()
        self._after_recording = [*release, Finish()]
        return [self._record_closing()]

    def _conclude(self) -> None:
        """Say how an exchange counts whose answer went to the client, to whatever end it has."""
        answer = self._gather_answer()
        if self._masker is not None and self._masker.blocked is not None:
            # The answer was ended by us: that the upstream's own end did not pass is no fault of the upstream.
            self.story.refused(blocked(self._masker.blocked))
        elif self._turned_down is not None:
            self.story.refused(self._turned_down)
        elif answer is not None and not answer.complete and not self._may_stay_open():
            self.story.refused(INCOMPLETE)
        else:
            self.story.completed()

    def _pass_response_headers(self, *more: tuple[str, str], remove: Sequence[str] = ()) -> PassResponseHeaders:
        return released_headers(self._response_headers, self._secrets(), self.story.id, *more, remove=remove)

    def _may_stay_open(self) -> bool:
        """Say whether the answer needs no terminal event: servers may end an MCP stream when they like."""
        return self.story.endpoint is not None and self.story.endpoint.kind is EndpointKind.MCP

    # --- recording, refusing, ending -----------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> list[Effect]:
        """Answer with an error; once bytes of an answer are out, cut the exchange instead."""
        self.story.refused(refusal)
        if self._answering:
            self._after_recording = [Fail(refusal.code)]
        else:
            self._after_recording = [self._respond(refusal), Finish()]
        return [self._record_closing()]

    def _answer(self, body: bytes) -> list[Effect]:
        """Answer in the upstream's place; how it counts is completed where nothing else was said."""
        self.story.status = 200
        if self.story.outcome is None:
            self.story.completed()
        self._after_recording = [own_answer(self.story, body), Finish()]
        return [self._record_closing()]

    def _respond(self, refusal: Refusal) -> Respond:
        reply = refusal_reply(self.story, refusal, self._rules)
        self.story.status = reply.status
        return reply

    def _record_closing(self) -> Record:
        self.phase = Phase.CLOSING
        self._give_slot()
        opening = None if self._opening_written else self._opening_entry()
        self._closing_written = True
        self._gather_answer()
        if self._masker is not None:
            self.story.note_masking(self._masker)
        if self._hold is not None:
            self._hold.withdraw(self.story.now)
            self.story.approvals = self._hold.approvals
        return Record(opening, self.story.closing())

    def _give_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._rules.telemetry.give()

    def _gather_answer(self) -> Answer | None:
        """Join what was said, once, when no more is to come; bodies of metadata are not recorded."""
        is_read = self.story.endpoint is not None and self.story.endpoint.kind not in UNREAD
        if self.story.answer is None and self._body is not None and is_read:
            self.story.answer = self._body.answer()
        return self.story.answer

    def _opening_entry(self) -> dict[str, Any]:
        self._opening_written = True
        return self.story.opening(self._rules.sessions, self._rules.policy.digest, self._shown)

    def _on_recorded(self) -> list[Effect]:
        effects, self._after_recording = self._after_recording, []
        if self.phase is Phase.OPENING:
            self.story.timing.released = self.story.elapsed()
            self.phase = Phase.AWAITING_RESPONSE
            # A stream may stay open for an hour; what was asked is on disk now.
            self._request_body = b""
            self.story.prompt = None
        else:
            self.phase = Phase.DONE
        return effects

    def _on_recording_failed(self) -> list[Effect]:
        self.story.refusal, self.story.outcome = RECORDING, Outcome.FAILED
        self.phase = Phase.DONE
        self._give_slot()
        if self._ended:
            return []
        if self._answering:
            return [Fail(RECORDING.code)]
        return [self._respond(RECORDING), Finish()]

    def _on_ended(self, end: End) -> list[Effect]:
        self._ended = True
        if self.phase in {Phase.NEW, Phase.DONE} or self._closing_written:
            self.phase = Phase.DONE
            return []
        if self.phase is Phase.INSPECTING_RESPONSE:
            # Its thread may still be at work on them, and nothing of the answer was passed on.
            self._body = self._masker = None
        if end is End.CLIENT and self._body is not None and self._body.passed_whole():
            # Clients hang up at the terminal event, before the stream's formal end: they have all there is.
            self._conclude()
        else:
            self.story.outcome, refusal = ENDED[end]
            self.story.refusal = refusal
            if not self._answering:
                self.story.status = refusal.status
        self._after_recording = []
        return [self._record_closing()]

    def _head(self) -> Request:
        if self.story.request is None:
            raise IllegalEvent("no request headers yet")
        return self.story.request

    def _reader(self) -> Body:
        if self._body is None:
            raise IllegalEvent("no response headers yet")
        return self._body

    def _secrets(self) -> tuple[Secret, ...]:
        return () if self._credential is None else self._credential.secrets


def _denial_status(kind: EndpointKind) -> int:
    # Copilot clients show the message of a 422, and do not sign in again or retry; at a 403 they say something else.
    return 422 if kind in MODEL_ENDPOINTS or kind is EndpointKind.MODELS else 403
