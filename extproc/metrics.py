"""Every metric of the service, declared once. Labels come from small fixed sets: never a user, path or text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from extproc.recording.story import Story

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class RecordingState:
    """How recording stands: bytes in the spool, ages in seconds, and counts since the start; witnesses by name."""

    spool_bytes: int
    behind_seconds: float
    checkpoint_age_seconds: float
    store_retries: int
    conflicts: int
    interrupted: int
    refused_logs: int
    witness_behind_seconds: Mapping[str, float]
    contradictions: Mapping[str, int]


class _RecordingCollector(Collector):
    """Read how recording stands when it is scraped."""

    def __init__(self, read: Callable[[], RecordingState]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        now = self._read()
        yield GaugeMetricFamily("extproc_spool_bytes", "What waits in the spool for the store.", now.spool_bytes)
        yield GaugeMetricFamily("extproc_spool_age_seconds", "How long the oldest entry waits.", now.behind_seconds)
        yield GaugeMetricFamily(
            "extproc_checkpoint_age_seconds", "Since this log was signed last.", now.checkpoint_age_seconds
        )
        yield CounterMetricFamily("extproc_store_retries", "Times the store did not take entries.", now.store_retries)
        yield CounterMetricFamily(
            "extproc_store_conflicts", "Things in the store that are not what was recorded: an alarm.", now.conflicts
        )
        yield CounterMetricFamily(
            "extproc_interrupted", "Exchanges of dead processes that this one ended.", now.interrupted
        )
        yield GaugeMetricFamily(
            "extproc_spool_refused_logs", "Logs of dead processes that cannot be shipped: an alarm.", now.refused_logs
        )
        behind = GaugeMetricFamily(
            "extproc_witness_behind_seconds", "Since when a witness did not take a checkpoint.", labels=["witness"]
        )
        for name, seconds in now.witness_behind_seconds.items():
            behind.add_metric([name], seconds)
        yield behind
        denied = CounterMetricFamily(
            "extproc_witness_contradictions", "Checkpoints a witness has another of: an alarm.", labels=["witness"]
        )
        for name, count in now.contradictions.items():
            denied.add_metric([name], count)
        yield denied


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

    def watch_recording(self, read: Callable[[], RecordingState]) -> None:
        """Have scrapes tell how recording stands."""
        self.registry.register(_RecordingCollector(read))

    def render(self) -> bytes:
        """Return the exposition text for a scrape."""
        return generate_latest(self.registry)
