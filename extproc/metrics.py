"""The metrics of the service. Labels come from small fixed sets: never a user, path or text.

Each metric is declared once, here or in `metrics_state`; docs/metrics.md lists all. Names and buckets of `gen_ai_*` are
those of OpenTelemetry's semantic conventions for generative AI metrics, in Prometheus form.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Final

from prometheus_client import generate_latest

from extproc.approval.approval import Approval
from extproc.metrics_kinds import Declaring
from extproc.metrics_labels import OPERATIONS, Labels
from extproc.metrics_shared import gathered, joined
from extproc.metrics_state import RecordingState, State, StateMetrics
from extproc.recording.document import Outcome
from extproc.recording.story import Story

__all__ = ["Metrics", "RecordingState", "State"]

# The conventions end at 81.92 s; an exchange that waits for approval takes longer.
_REQUEST = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300, 900, 3600)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_TOKENS = tuple(4**power for power in range(14))
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)

_MOST_TOKENS: Final = 1 << 53
"""No answer has more, whatever its upstream says: a sum would lose what is added to it."""

_MOST_GATHERED: Final = 1000
"""So many exchanges and pieces of answers are gathered at most."""


class Metrics:
    """The metrics of one process, in a registry of their own.

    Where prometheus_client shares numbers between worker processes, `shared` is the folder it does so in
    (`metrics_shared`): then a scrape of any worker tells of all. Raises OSError where the folder cannot be used.

    What finished exchanges count is gathered, for it costs least so. A scrape of this process has all of it, one of
    another worker what was `settle`d, as it is every second (`operations.watch`).
    """

    def __init__(self, labels: Labels | None = None, *, shared: Path | None = None) -> None:
        self.labels = labels or Labels()
        self._shared = shared
        declare = Declaring()
        self.registry = declare.registry
        self._lock = Lock()
        self._gathered = 0
        self._waiting = declare.waiting
        with nullcontext() if shared is None else joined(shared):
            self._declare_exchanges(declare)
            self._declare_models(declare)
            self._declare_others(declare)
            self._state = StateMetrics(declare)

    def _declare_exchanges(self, declare: Declaring) -> None:
        self.streams_open = declare.gauge("extproc_streams_open", "ext_proc streams that run now.", "livesum")
        self._exchanges = declare.counts(
            "extproc_exchanges", "Exchanges by endpoint and outcome.", "endpoint", "outcome"
        )
        self._refusals = declare.counts("extproc_refusals", "Refusals by stable code.", "code")
        self._identity = declare.counts(
            "extproc_identity_failures", "Refusals because of who asks, by stable code.", "code"
        )
        self._decisions = declare.counts("extproc_policy_decisions", "Policy decisions by rule.", "rule", "effect")
        self._findings = declare.counts(
            "extproc_findings", "Secrets found, by rule, direction and what was done.", "rule", "direction", "action"
        )
        self._holdback = declare.amounts(
            "extproc_holdback_seconds",
            "How long masking held back what leaves a streamed answer.",
            buckets=(0, *_SHORT),
        )

    def _declare_models(self, declare: Declaring) -> None:
        operation, model = "gen_ai_operation_name", "gen_ai_request_model"
        self._duration = declare.amounts(
            "gen_ai_server_request_duration_seconds",
            "From the request's headers to the end of the answer.",
            *("endpoint", operation),
            buckets=_REQUEST,
        )
        self._first = declare.amounts(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request's headers to the first streamed piece.",
            *(operation, model),
            buckets=_FIRST_TOKEN,
        )
        self._per_token = declare.amounts(
            "gen_ai_server_time_per_output_token_seconds",
            "Per output token after the first one, in streamed answers.",
            *(operation, model),
            buckets=_PER_TOKEN,
        )
        self._usage = declare.amounts(
            "gen_ai_client_token_usage",
            "Tokens of an exchange, as the upstream counted them.",
            *("gen_ai_token_type", model, operation),
            buckets=_TOKENS,
        )
        self._tokens = declare.counts("extproc_tokens", "Tokens by model and group.", "type", "model", "group")

    def _declare_others(self, declare: Declaring) -> None:
        self.recording_failures = declare.counter(
            "extproc_recording_failures", "Entries that could not be made durable."
        )
        self._writes = declare.counter("extproc_store_writes", "Writes that the store took.")
        self._write_seconds = declare.histogram(
            "extproc_store_write_seconds", "How long the store took for a write.", _SHORT
        )
        self._approvals = declare.counters("extproc_approvals", "Approvals by how they ended.", "state")
        self._approval_wait = declare.histograms(
            "extproc_approval_wait_seconds", "How long an approval waited.", "state", buckets=_WAIT
        )
        self._lag = declare.histogram(
            "extproc_event_loop_lag_seconds", "How late the event loop does what is due.", _SHORT
        )
        self._build = declare.gauges("extproc_build_info", "1, by version.", "version", mode="livemax")
        self._policy = declare.gauges(
            "extproc_policy_info", "1, by the SHA-256 of the policy file in force.", "digest", mode="livemax"
        )

    def describe(self, version: str, policy_digest: str) -> None:
        """Say what runs."""
        self._build[version,].set(1)
        self._policy[policy_digest,].set(1)

    def observe(self, exchange: Story, now: float) -> None:
        """Count a finished exchange."""
        with self._lock:
            self._gather(exchange, now)
            self._gathered += 1 + len(exchange.timing.held)
        if self._gathered > _MOST_GATHERED:
            self.settle()

    def settle(self) -> None:
        """Have the metrics take over what was gathered of exchanges."""
        with self._lock:
            self._gathered = 0
            for one in self._waiting:
                one.settle()

    def _gather(self, exchange: Story, now: float) -> None:
        kind = None if exchange.endpoint is None else exchange.endpoint.kind
        shown = "unknown" if kind is None else kind
        operation = "" if kind is None else OPERATIONS.get(kind, "")
        self._exchanges.inc(shown, exchange.outcome or "none")
        if exchange.refusal is not None:
            code = exchange.refusal.code
            self._refusals.inc(code)
            if code.startswith("identity."):
                self._identity.inc(code)
        if exchange.decision is not None:
            self._decisions.inc(exchange.decision.rule_id, exchange.decision.effect)
        for finding in exchange.findings:
            self._findings.inc(finding.rule, finding.direction, finding.action)
        if exchange.opened_at:
            self._duration.observe(now - exchange.opened_at, shown, operation)
        if exchange.timing.held:
            self._holdback.observe_all(exchange.timing.held)
        # What was not let go, or was turned down, tells nothing of a model, least of all that there is one.
        if operation and 0 < (exchange.upstream_status or 0) < 400:
            self._observe_answer(exchange, operation)

    def _observe_answer(self, exchange: Story, operation: str) -> None:
        model = self.labels.model(exchange.model, has_answered=True)
        pieces, usage = exchange.timing.pieces, None if exchange.answer is None else exchange.answer.usage
        if pieces:
            self._first.observe(pieces[0][0] / 1000, operation, model)
        if usage is None:
            return
        # The rhythm of an answer that waited for approvers is theirs.
        if pieces and usage.output_tokens > 1 and exchange.outcome is Outcome.COMPLETED and not exchange.approvals:
            seconds = (pieces[-1][0] - pieces[0][0]) / 1000
            self._per_token.observe(seconds / (usage.output_tokens - 1), operation, model)
        group = self.labels.group(exchange.principal)
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if 0 <= count < _MOST_TOKENS:
                self._usage.observe(count, kind, model, operation)
                self._tokens.inc(kind, model, group, by=count)

    def approval_ended(self, approval: Approval) -> None:
        """Count an approval that waited in this process."""
        began = approval.request.requested_at
        self._approvals[approval.state,].inc()
        self._approval_wait[approval.state,].observe(max(0.0, (approval.ended_at or began) - began))

    def wrote(self, seconds: float) -> None:
        """Count a write that the store took."""
        self._writes.inc()
        self._write_seconds.observe(seconds)

    def lagged(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(seconds)

    def update(self, state: State) -> None:
        """Take over how the service stands, and what was gathered of exchanges."""
        self.settle()
        self._state.update(state)

    def render(self) -> bytes:
        """Return the exposition text for a scrape; may be called in any thread."""
        self.settle()
        return generate_latest(self.registry if self._shared is None else gathered(self._shared))
