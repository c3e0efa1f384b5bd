"""What `exchange` promises whatever happens and however bytes are cut: recorded first, then released."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.approval.approval import Approval, Request, Scope, State, Verdict
from extproc.effects import (
    Ask,
    Compute,
    Effect,
    Fail,
    FetchCredential,
    Finish,
    Identify,
    PassRequestBody,
    PassRequestHeaders,
    PassRequestTrailers,
    PassResponseBody,
    PassResponseHeaders,
    PassResponseTrailers,
    Record,
    Respond,
)
from extproc.errors import Code, Refusal
from extproc.events import (
    Computed,
    CredentialReady,
    Decided,
    End,
    Ended,
    Event,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestBody,
    RequestTrailers,
    ResponseBody,
    ResponseTrailers,
    Tick,
)
from extproc.exchange import Exchange, Phase
from extproc.rules import Rules
from tests.holding import END, FIRST, INFRA, KEYS, MERGE, PLAIN, WORKFLOW, answer, call, chunk, events, protecting
from tests.playbook import (
    ALICE,
    ANSWER,
    CREDENTIAL,
    MALLORY,
    PROMPT,
    SECRET,
    START,
    STEP,
    STREAM,
    TOKEN,
    UPSTREAM_TOKEN,
    received,
    request,
    response,
    rules,
)

T = TypeVar("T")
REQUEST = PassRequestHeaders | PassRequestBody | PassRequestTrailers
RESPONSE = PassResponseHeaders | PassResponseBody | PassResponseTrailers
REFUSAL = Refused(Refusal(503, Code.CREDENTIAL_UNAVAILABLE, "not now"))
LEAKS = [
    f'data: {{"choices":[{{"index":0,"delta":{{"content":"{SECRET[:9]}"}}}}]}}\n\n'.encode()
    + f'data: {{"choices":[{{"index":0,"delta":{{"content":"{SECRET[9:]}"}}}}]}}\n\ndata: [DONE]\n\n'.encode(),
    ANSWER.replace(b"Hello", f"use {SECRET} and {UPSTREAM_TOKEN}".encode()),
    f"{SECRET} {UPSTREAM_TOKEN}\n".encode(),
]
BODIES = st.sampled_from([STREAM, ANSWER, *LEAKS, b"", b"{", b"\xff" * 300, b'{"error":{"message":"no"}}', b"<html>"])
PATHS = st.sampled_from([INFRA, INFRA, WORKFLOW, KEYS, PLAIN])
CALLS = st.builds(call, PATHS, st.integers(0, 2)).map(b"".join)
MORE = st.builds(call, st.sampled_from([WORKFLOW, KEYS]), st.integers(2, 3))
# In any order: calls after the end, several ends, calls that share an index, blocks of code.
EDITS = st.one_of(
    st.lists(
        CALLS | st.sampled_from([FIRST, *END, b": a comment\n\n", chunk(content=f"\n```tf {INFRA}\nx\n```\n")]),
        max_size=8,
    ).map(b"".join),
    st.builds(lambda first, late: b"".join(events(*first) + late), st.lists(PATHS, min_size=1, max_size=2), MORE),
    st.lists(PATHS, max_size=3).map(lambda paths: answer(*paths)),
)
CONTENT_TYPES = st.sampled_from(["text/event-stream", "application/json", "text/plain", "text/html", None])


@dataclass
class World:
    """Play Envoy, the identity provider, the credential's source and the store; note everything in order."""

    draw: st.DataObject
    exchange: Exchange
    trace: list[Effect | Event] = field(default_factory=list)
    now: float = START
    asked: Request | None = None

    def tell(self, event: Event) -> None:
        todo = deque([event])
        while todo:
            self.now += STEP
            said = todo.popleft()
            self.trace.append(said)
            self.asked = None if isinstance(said, Decided) else self.asked
            for effect in self.exchange.receive(said, self.now):
                self.trace.append(effect)
                if (answer := self.answer(effect)) is not None:
                    todo.append(answer)

    def answer(self, effect: Effect) -> Event | None:
        match effect:
            case Identify():
                known: list[Event] = [Identified(ALICE)] * 3
                return self.choose(*known, Identified(MALLORY), REFUSAL, self.an_end())
            case FetchCredential():
                ready: list[Event] = [CredentialReady(CREDENTIAL)] * 3
                return self.choose(*ready, REFUSAL, self.an_end())
            case Compute():
                done: list[Event] = [Computed(effect.work())] * 4
                return self.choose(*done, self.an_end())
            case Record():
                durable: list[Event] = [Recorded()] * 4
                ends = [] if effect.closing else [self.an_end()]
                return self.choose(*durable, RecordingFailed(), *ends)
            case Ask():
                # Answered by and by, while other things happen.
                self.asked = effect.request
                return None
            case _:
                return None

    def choose(self, *options: T) -> T:
        return self.draw.draw(st.sampled_from(options))

    def rarely(self) -> bool:
        return self.draw.draw(st.integers(0, 3)) == 3

    def an_end(self) -> Ended:
        return Ended(self.choose(*End))

    def chunks(self, body: bytes) -> list[bytes]:
        cuts = sorted(self.draw.draw(st.sets(st.integers(0, len(body)), max_size=5)))
        edges = [0, *cuts, len(body)]
        return [body[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]

    def word(self) -> Event:
        """Return what may be heard of an approval."""
        if self.asked is None:
            return Tick()
        state = self.choose(*[State.APPROVED] * 4, State.DENIED, State.EXPIRED, State.INTERRUPTED, None)
        if state is None:
            options: list[Event] = [Decided(None, "Too many wait."), self.an_end()]
            return self.choose(*options)
        verdict = Verdict("issuer#bob", "bob", state is State.APPROVED, "", Scope.ONCE, self.now)
        verdicts = (verdict,) if state in {State.APPROVED, State.DENIED} else ()
        return Decided(Approval(self.asked, state, verdicts, self.now))

    def settle(self) -> None:
        """Wait until approvers have answered, with signs of life."""
        while self.exchange.phase in {Phase.HOLDING_REQUEST, Phase.HOLDING_RESPONSE}:
            self.tell(Tick() if self.rarely() else self.word())

    def run(self) -> None:
        """Tell what Envoy may tell, until the exchange wants no more."""
        chat = not self.rarely()
        path = self.choose("/models", "/_ping", "/repos/a/b/pulls/1")
        head = request() if chat else request("GET", f"{path}?q={SECRET}", end_of_stream=True)
        head = self.choose(*[head] * 4, request("PUT", MERGE))
        self.tell(self.choose(*[head] * 8, request(token=None), request(full_duplex=False), request(path="/../x")))
        if self.exchange.phase is Phase.READING_REQUEST:
            body = self.choose(PROMPT, PROMPT, PROMPT.replace(b"hi", SECRET.encode()), b"{")
            self.tell_body(self.chunks(body), RequestBody, RequestTrailers(["x"]), Phase.READING_REQUEST)
        self.settle()
        if self.exchange.phase is Phase.AWAITING_RESPONSE:
            status = self.choose(200, 200, 200, 401, 404, 500)
            details = self.choose("via_upstream", "via_upstream", "via_upstream", "no_healthy_upstream")
            without_body = self.rarely()
            content_type = self.draw.draw(CONTENT_TYPES)
            self.tell(response(status, content_type, end_of_stream=without_body, details=details))
        if self.exchange.phase is Phase.READING_RESPONSE:
            chunks = self.chunks(self.draw.draw(BODIES | EDITS))
            self.tell_body(chunks, ResponseBody, ResponseTrailers(["x"]), Phase.READING_RESPONSE)
        self.settle()
        if self.exchange.phase is not Phase.DONE:
            self.tell(self.an_end())

    def tell_body(self, chunks: list[bytes], kind: Any, trailers: Event, phase: Phase) -> None:
        with_trailers = self.rarely()
        ends_after = self.choose(None, None, None, self.choose(*range(len(chunks))))
        for at, data in enumerate(chunks):
            if self.exchange.phase is not phase:
                return
            if at == ends_after:
                self.tell(self.an_end())
                return
            self.tell(kind(data, end_of_stream=at == len(chunks) - 1 and not with_trailers))
            if self.asked is not None and self.exchange.phase is phase and self.rarely():
                self.tell(self.choose(Tick(), self.word()))
        if with_trailers and self.exchange.phase is phase:
            self.tell(trailers)


def ran(data: st.DataObject, rules_: Rules | None = None) -> World:
    chosen = rules_ or (protecting() if data.draw(st.booleans()) else rules())
    world = World(data, Exchange("0" * 32, chosen))
    world.run()
    return world


def acknowledged(trace: list[Effect | Event]) -> dict[str, int]:
    """Return where in the trace each entry became durable."""
    found: dict[str, int] = {}
    waiting: Record | None = None
    for at, one in enumerate(trace):
        if isinstance(one, Record):
            waiting = one
        elif isinstance(one, Recorded) and waiting is not None:
            found |= {name: at for name in ("opening", "closing") if getattr(waiting, name) is not None}
    return found


@given(st.data())
def test_nothing_is_released_before_the_opening_is_durable(data: st.DataObject) -> None:
    trace = ran(data).trace
    durable = acknowledged(trace).get("opening", len(trace))
    assert not [one for one in trace[:durable] if isinstance(one, REQUEST | RESPONSE)]


@given(st.data())
def test_no_answer_is_complete_before_the_closing_is_durable(data: st.DataObject) -> None:
    trace = ran(data).trace
    durable = acknowledged(trace).get("closing", len(trace))
    for one in trace[:durable]:
        assert not isinstance(one, PassResponseTrailers)
        assert not (isinstance(one, PassResponseBody) and one.end_of_stream)
        if isinstance(one, Respond | Finish):
            # Without a durable closing there is one thing left to say.
            assert trace[-2:] == [one, Finish()] or one == trace[-1]
            assert '"recording.unavailable"' in repr(next(e for e in trace if isinstance(e, Respond)).body)


@given(st.data())
def test_there_is_at_most_one_of_each_entry_and_never_a_closing_without_an_opening(data: st.DataObject) -> None:
    records = [one for one in ran(data).trace if isinstance(one, Record)]
    named = [name for one in records for name in ("opening", "closing") if getattr(one, name) is not None]
    assert named in ([], ["opening"], ["opening", "closing"])


@given(st.data())
def test_every_exchange_with_an_opening_that_did_not_fail_has_a_closing(data: st.DataObject) -> None:
    world = ran(data)
    named = [one for one in world.trace if isinstance(one, Record)]
    failed = [one for one in world.trace if isinstance(one, RecordingFailed)]
    assert world.exchange.phase is Phase.DONE
    if named and not failed:
        assert named[-1].closing is not None
        assert named[-1].closing["outcome"] in {
            "completed",
            "denied",
            "aborted",
            "upstream_error",
            "failed",
            "interrupted",
        }


@given(st.data())
def test_an_exchange_ends_once_and_says_nothing_after(data: st.DataObject) -> None:
    trace = ran(data).trace
    ends = [at for at, one in enumerate(trace) if isinstance(one, Finish | Fail)]
    assert len(ends) <= 1
    assert not ends or ends[0] == len(trace) - 1
    answers = sum(isinstance(one, Respond) for one in trace)
    assert answers <= 1
    assert not (answers and any(isinstance(one, RESPONSE) for one in trace))


@given(st.data())
def test_the_callers_token_goes_to_nobody_but_the_identity_provider(data: st.DataObject) -> None:
    trace = ran(data).trace
    told = [one for one in trace if not isinstance(one, Event)]
    assert TOKEN not in repr(told)
    assert all(TOKEN not in repr((one.opening, one.closing)) for one in told if isinstance(one, Record))


@given(st.data())
def test_no_secret_goes_to_the_upstream_the_client_or_the_record(data: st.DataObject) -> None:
    trace = ran(data).trace
    sent = [one for one in trace if isinstance(one, PassRequestBody | PassResponseHeaders | Respond)]
    recorded = [(one.opening, one.closing) for one in trace if isinstance(one, Record)]
    answered = b"".join(one.data for one in trace if isinstance(one, PassResponseBody))
    for secret in (SECRET, UPSTREAM_TOKEN):
        assert secret not in repr(sent) + repr(recorded)
        assert secret.encode() not in answered


class Model(World):
    """A model that proposes edits, while identity, credentials and the store do what they should."""

    def answer(self, effect: Effect) -> Event | None:
        match effect:
            case Identify():
                return Identified(ALICE)
            case FetchCredential():
                return CredentialReady(CREDENTIAL)
            case Compute():
                return Computed(effect.work())
            case Record():
                return Recorded()
            case _:
                return super().answer(effect)

    def chunks(self, body: bytes) -> list[bytes]:
        # By event, so that something is asked between two of them.
        return self.choose(super().chunks(body), [*body.splitlines(keepends=True), b""])

    def run(self) -> None:
        self.tell(request())
        self.tell(RequestBody(PROMPT, end_of_stream=True))
        body = self.draw.draw(EDITS)
        self.tell(response(200, "application/json" if body.startswith(b"{") else "text/event-stream"))
        self.tell_body(self.chunks(body), ResponseBody, ResponseTrailers(["x"]), Phase.READING_RESPONSE)
        self.settle()


@given(st.data())
def test_a_merge_does_not_leave_before_it_was_approved(data: st.DataObject) -> None:
    trace = ran(data, protecting()).trace
    if "/merge" in repr(trace[0]):
        decided = [at for at, one in enumerate(trace) if isinstance(one, Decided)]
        released = [at for at, one in enumerate(trace) if isinstance(one, REQUEST)]
        assert not released or (decided and decided[0] < released[0])
        for one in trace:
            if isinstance(one, Decided):
                assert not released or (one.approval is not None and one.approval.state is State.APPROVED)


@settings(max_examples=500)
@given(st.data())
def test_what_is_privileged_goes_to_nobody_before_it_was_approved(data: st.DataObject) -> None:
    world = Model(data, Exchange("0" * 32, protecting()))
    world.run()
    approved: set[str | None] = set()
    answered = b""
    for one in world.trace:
        if isinstance(one, Decided) and one.approval is not None and one.approval.state is State.APPROVED:
            approved |= {touch.path for touch in one.approval.request.touches}
        elif isinstance(one, PassResponseBody):
            answered += one.data
            assert all(path in approved for path in (INFRA, WORKFLOW) if path.encode() in answered)
            assert KEYS.encode() not in answered


@given(st.data())
def test_the_record_has_every_approval_that_was_asked_for(data: st.DataObject) -> None:
    trace = ran(data).trace
    asked = [one.request.id for one in trace if isinstance(one, Ask)]
    for one in trace:
        if isinstance(one, Record) and one.closing is not None:
            assert [entry["id"] for entry in one.closing["approvals"]] == asked


@given(st.data())
def test_bodies_of_metadata_are_never_recorded(data: st.DataObject) -> None:
    records = [one for one in ran(data).trace if isinstance(one, Record)]
    endpoints = [one.opening["request"]["endpoint"] for one in records if one.opening is not None]
    if endpoints == ["metadata"]:
        assert all("unparsed" not in one.closing["response"] for one in records if one.closing is not None)
        assert all("error" not in one.closing["response"] for one in records if one.closing is not None)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20), st.booleans())
def test_a_stream_comes_out_as_the_upstream_sent_it_however_it_is_cut(cuts: list[int], trailers: bool) -> None:  # noqa: FBT001
    edges = [0, *sorted(cuts), len(STREAM)]
    exchange = Exchange("0" * 32, rules())
    events: list[Event] = [
        request(),
        Identified(ALICE),
        RequestBody(PROMPT, end_of_stream=True),
        CredentialReady(CREDENTIAL),
        Recorded(),
        response(200, "text/event-stream"),
        *(ResponseBody(STREAM[edges[i] : edges[i + 1]], end_of_stream=False) for i in range(len(edges) - 1)),
        ResponseTrailers([]) if trailers else ResponseBody(b"", end_of_stream=True),
        Recorded(),
    ]
    effects = [effect for at, event in enumerate(events) for effect in received(exchange, event, START + at * STEP)]
    assert b"".join(one.data for one in effects if isinstance(one, PassResponseBody)) == STREAM
    assert effects[-1] == Finish()
    closing = next(one.closing for one in effects if isinstance(one, Record) and one.closing is not None)
    assert closing["response"]["text"] == "Hello, wörld"
    assert closing["outcome"] == "completed"


@given(st.lists(st.integers(0, len(PROMPT)), max_size=20))
def test_a_prompt_goes_on_as_it_was_sent_however_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(PROMPT)]
    exchange = Exchange("0" * 32, rules())
    events: list[Event] = [
        request(),
        Identified(ALICE),
        *(RequestBody(PROMPT[edges[i] : edges[i + 1]], end_of_stream=False) for i in range(len(edges) - 1)),
        RequestBody(b"", end_of_stream=True),
        CredentialReady(CREDENTIAL),
        Recorded(),
    ]
    effects = [effect for event in events for effect in received(exchange, event, START)]
    assert b"".join(one.data for one in effects if isinstance(one, PassRequestBody)) == PROMPT
