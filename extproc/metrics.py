"""Every metric of the service, declared once. Labels come from small fixed sets: never a user, path or text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from extproc.recording.story import Story

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.streams_open = Gauge("extproc_streams_open", "ext_proc streams that run now.", registry=self.registry)
        self.recording_failures = Counter(
            "extproc_recording_failures", "Entries that could not be made durable.", registry=self.registry
        )
        self._exchanges = Counter(
            "extproc_exchanges", "Exchanges by endpoint and outcome.", ["endpoint", "outcome"], registry=self.registry
        )
        self._refusals = Counter("extproc_refusals", "Refusals by stable code.", ["code"], registry=self.registry)
        self._decisions = Counter(
            "extproc_policy_decisions", "Policy decisions by rule.", ["rule", "effect"], registry=self.registry
        )
        self._findings = Counter(
            "extproc_findings",
            "Secrets found, by rule, direction and what was done.",
            ["rule", "direction", "action"],
            registry=self.registry,
        )
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request's headers to the end of the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request's headers to the first streamed piece.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def observe(self, exchange: Story, now: float) -> None:
        """Count a finished exchange."""
        kind = "unknown" if exchange.endpoint is None else exchange.endpoint.kind.value
        self._exchanges.labels(kind, exchange.outcome or "none").inc()
        if exchange.refusal is not None:
            self._refusals.labels(exchange.refusal.code).inc()
        if exchange.decision is not None:
            self._decisions.labels(exchange.decision.rule_id, exchange.decision.effect).inc()
        for finding in exchange.findings:
            self._findings.labels(finding.rule, finding.direction, finding.action).inc()
        if exchange.opened_at:
            self._duration.labels(kind).observe(now - exchange.opened_at)
        if exchange.timing.pieces:
            self._first.observe(exchange.timing.pieces[0][0] / 1000)

    def render(self) -> bytes:
        """Return the exposition text for a scrape."""
        return generate_latest(self.registry)
