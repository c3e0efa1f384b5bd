"""What is known of one exchange while it runs, and the two entries made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extproc.conversation import Answer, Prompt
from extproc.endpoint import MODEL_ENDPOINTS, Endpoint
from extproc.errors import Refusal
from extproc.headers import trace_id
from extproc.identity.principal import Principal
from extproc.masking.finding import Direction, Finding
from extproc.masking.masker import Masker
from extproc.policy import Decision
from extproc.recording import document
from extproc.recording.document import Outcome, Timing
from extproc.recording.session import Sessions
from extproc.recording.turn import Gist, Turn
from extproc.request import Request


@dataclass(slots=True)
class Story:
    """Gather the facts of an exchange as they become known; times are unix seconds.

    `masking` says for a direction, once its text was looked at, which detectors did so.
    """

    id: str
    opened_at: float = 0.0
    now: float = 0.0
    request: Request | None = None
    client_address: str | None = None
    tunnel: str | None = None
    """The decision id of the CONNECT around the exchange."""
    tunnelled: dict[str, int] | None = None
    """The bytes `received` from the client and `sent` to it through a tunnel that nobody reads."""
    request_bytes: int = 0
    principal: Principal | None = None
    endpoint: Endpoint | None = None
    prompt: Prompt | None = None
    model: str | None = None
    """What is asked for, once the request is recorded: the prompt itself is let go of then."""
    trace: str | None = None
    """The id of the client's trace."""
    gist: Gist | None = None
    decision: Decision | None = None
    status: int | None = None
    upstream_status: int | None = None
    content_type: str | None = None
    response_bytes: int = 0
    answer: Answer | None = None
    outcome: Outcome | None = None
    refusal: Refusal | None = None
    timing: Timing = field(default_factory=Timing)
    findings: list[Finding] = field(default_factory=list)
    masking: dict[Direction, Any] = field(default_factory=dict)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    _session: str | None = None
    _turn: Turn | None = None

    def elapsed(self) -> float:
        """Return the milliseconds since the opening."""
        return round((self.now - self.opened_at) * 1000, 3)

    def note_masking(self, masker: Masker) -> None:
        """Note what masked a message and what it found; nothing where it had no text to look at."""
        self.findings += masker.findings
        if masker.ran:
            self.masking[masker.direction] = masker.applied_rules()

    def refused(self, refusal: Refusal) -> None:
        """Note why the exchange ends in an error of ours, and how that counts."""
        self.refusal = refusal
        if refusal.code.startswith("upstream."):
            self.outcome = Outcome.UPSTREAM_ERROR
        else:
            self.outcome = Outcome.FAILED if refusal.status >= 500 else Outcome.DENIED

    def completed(self) -> None:
        """Note that the upstream's answer was passed on whole."""
        self.outcome = Outcome.COMPLETED if (self.status or 0) < 400 else Outcome.UPSTREAM_ERROR

    def session(self, sessions: Sessions) -> str:
        """Return the session this exchange belongs to."""
        if self._session is None:
            if self.request is None:
                raise ValueError("an exchange without request headers has no session")
            client = self.request.client
            named = client.session_id or client.interaction_id
            principal = "" if self.principal is None else self.principal.id
            self._session = sessions.name(principal, named, client.user_agent, self.now)
        return self._session

    def opening(self, sessions: Sessions, policy_digest: str, shown: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the entry that must be durable before the request leaves.

        `shown` are members of `request` in the record that were masked there.
        """
        request = self.request
        if request is None:
            raise ValueError("an exchange without request headers has no record")
        client, session, endpoint = request.client, self.session(sessions), self.endpoint
        self.trace = trace_id(request.headers)
        self.model = self._asked_model()
        if endpoint is not None and endpoint.kind in MODEL_ENDPOINTS:
            self._turn = sessions.turns.take(
                self.id, session, endpoint=endpoint, client=client, gist=self.gist, now=self.now
            )
        return document.opening(
            exchange_id=self.id,
            session=session,
            turn=None if self._turn is None else self._turn.recorded(),
            opened_at=self.opened_at,
            principal=self.principal,
            decision=self.decision,
            policy_digest=policy_digest,
            client=client,
            client_address=self.client_address,
            tunnel=self.tunnel,
            trace=self.trace,
            request={**request.recorded(None if self.endpoint is None else self.endpoint.kind), **shown},
            prompt=self.prompt,
            body_bytes=self.request_bytes,
            findings=self._findings(Direction.PROMPT),
            masking=self._masking(Direction.PROMPT),
        )

    def _asked_model(self) -> str | None:
        # What the path names is what answers.
        if self.endpoint is not None and self.endpoint.model is not None:
            return self.endpoint.model
        return None if self.prompt is None else self.prompt.model

    def closing(self) -> dict[str, Any]:
        """Return the entry that must be durable before the end of the response is released."""
        if self._turn is not None:
            self._turn.failed = self.outcome is not Outcome.COMPLETED
        return document.closing(
            exchange_id=self.id,
            opened_at=self.opened_at,
            closed_at=self.now,
            outcome=self.outcome or Outcome.FAILED,
            refusal=self.refusal,
            status=self.status,
            upstream_status=self.upstream_status,
            content_type=self.content_type,
            body_bytes=self.response_bytes,
            answer=self.answer,
            timing=self.timing,
            findings=self._findings(Direction.ANSWER),
            masking=self._masking(Direction.ANSWER),
            approvals=self.approvals,
            tunnelled=self.tunnelled,
        )

    def _findings(self, direction: Direction) -> list[Finding]:
        return [one for one in self.findings if one.direction is direction]

    def _masking(self, direction: Direction) -> dict[str, Any] | None:
        return {direction.value: self.masking[direction]} if direction in self.masking else None
