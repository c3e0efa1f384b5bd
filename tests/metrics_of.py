"""Metrics for tests: an exchange to count, and what a scrape says."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from extproc.conversation import Answer, Usage
from extproc.endpoint import Endpoint, EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.identity.principal import Principal
from extproc.metrics import Metrics, RecordingState
from extproc.policy import Decision, Effect
from extproc.recording.story import Story

Samples = dict[tuple[str, tuple[str, ...]], float]


def parsed(text: str) -> Samples:
    """Return the samples of a scrape by name and labels' values, buckets left out."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def samples(metrics: Metrics) -> Samples:
    return parsed(metrics.render().decode())


def told(kind: EndpointKind = EndpointKind.CHAT) -> Story:
    """Return a streamed answer of five tokens, as it is when it is over."""
    story = Story("x1", opened_at=100.0, now=100.5)
    story.endpoint = Endpoint(kind, Upstream.COPILOT_API, "/chat/completions")
    story.decision = Decision(Effect.ALLOW, "developers", "", "github")
    story.principal = Principal("i#a", "a", "person", "i", "a", groups=frozenset({"developers", "x"}))
    story.status = story.upstream_status = 200
    story.model = "gpt-5"
    story.answer = Answer("gpt-5-2025", [], Usage(100, 5), complete=True)
    story.timing.pieces = [(250.0, "0.text", 1), (400.0, "0.text", 1)]
    story.timing.held = [0.0, 0.15]
    story.completed()
    return story


def refused() -> Story:
    story = Story("x1", opened_at=100.0, now=100.0)
    story.refused(Refusal(401, Code.IDENTITY_MISSING, "No token."))
    return story


def recording(**changes: Any) -> RecordingState:
    facts: dict[str, Any] = {
        "spool_bytes": 100,
        "behind_seconds": 2.5,
        "checkpoint_age_seconds": 7.0,
        "store_retries": 3,
        "conflicts": 0,
        "interrupted": 4,
        "refused_logs": 1,
        "witness_behind_seconds": {"witnesses[0]": 1.5},
        "contradictions": {"witnesses[0]": 0},
        "chain_index": 12,
        **changes,
    }
    return RecordingState(**facts)
