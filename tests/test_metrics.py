from __future__ import annotations

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from extproc.endpoint import Endpoint, EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.masking.finding import Action, Direction, Finding
from extproc.metrics import Metrics, RecordingState
from extproc.policy import Decision, Effect
from extproc.recording.story import Story


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def story() -> Story:
    told = Story("x1", opened_at=100.0, now=100.5)
    told.endpoint = Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, "/chat/completions")
    told.decision = Decision(Effect.ALLOW, "developers", "", "github")
    told.status = 200
    told.timing.pieces = [(250.0, "0.text", 1), (400.0, "0.text", 1)]
    told.completed()
    return told


def refused() -> Story:
    told = Story("x1", opened_at=100.0, now=100.0)
    told.refused(Refusal(401, Code.IDENTITY_MISSING, "No token."))
    return told


def test_a_finished_exchange_is_counted_with_its_times() -> None:
    metrics = Metrics()
    metrics.observe(story(), 102.0)
    found = samples(metrics)
    assert found["extproc_exchanges_total", ("chat", "completed")] == 1
    assert found["extproc_policy_decisions_total", ("allow", "developers")] == 1
    assert found["gen_ai_server_request_duration_seconds_sum", ("chat",)] == pytest.approx(2.0)
    assert found["gen_ai_server_time_to_first_token_seconds_sum", ()] == pytest.approx(0.25)
    assert not [name for name, _ in found if name == "extproc_refusals_total"]


def test_a_refused_exchange_is_counted_by_its_code() -> None:
    metrics = Metrics()
    metrics.observe(refused(), 100.0)
    metrics.observe(refused(), 100.0)
    found = samples(metrics)
    assert found["extproc_exchanges_total", ("unknown", "denied")] == 2
    assert found["extproc_refusals_total", ("identity.missing",)] == 2


def test_a_stream_that_never_brought_a_request_is_counted_without_a_duration() -> None:
    metrics = Metrics()
    metrics.observe(Story("x1"), 1_760_000_000.0)
    found = samples(metrics)
    assert found["extproc_exchanges_total", ("unknown", "none")] == 1
    assert not [name for name, _ in found if name.startswith("gen_ai_server_request_duration")]


def test_no_label_can_hold_a_person_a_path_or_a_text() -> None:
    metrics = Metrics()
    labels = {name for family in metrics.registry.collect() for sample in family.samples for name in sample.labels}
    metrics.observe(story(), 102.0)
    metrics.observe(refused(), 100.0)
    labels |= {name for family in metrics.registry.collect() for sample in family.samples for name in sample.labels}
    assert labels == {"endpoint", "outcome", "rule", "effect", "code", "le"}


def test_gauges_and_failures_are_rendered() -> None:
    metrics = Metrics()
    metrics.streams_open.inc()
    metrics.recording_failures.inc()
    found = samples(metrics)
    assert found["extproc_streams_open", ()] == 1
    assert found["extproc_recording_failures_total", ()] == 1


def test_two_instances_do_not_share_their_counts() -> None:
    one, other = Metrics(), Metrics()
    one.recording_failures.inc()
    assert samples(other)["extproc_recording_failures_total", ()] == 0


def test_findings_are_counted_by_rule_direction_and_action() -> None:
    metrics = Metrics()
    told = story()
    found = Finding("github-pat", Direction.ANSWER, "0.content", 3, Action.MASK, 1.0, "f" * 32)
    told.findings = [found, found, msgspec.structs.replace(found, action=Action.OBSERVE)]
    metrics.observe(told, 101.0)
    counted = samples(metrics)
    assert counted["extproc_findings_total", ("mask", "answer", "github-pat")] == 2
    assert counted["extproc_findings_total", ("observe", "answer", "github-pat")] == 1


def test_how_recording_stands_is_read_when_it_is_scraped() -> None:
    metrics, spool = Metrics(), [100]
    metrics.watch_recording(
        lambda: RecordingState(
            spool_bytes=spool[0],
            behind_seconds=2.5,
            checkpoint_age_seconds=7.0,
            store_retries=3,
            conflicts=0,
            interrupted=4,
            refused_logs=1,
            witness_behind_seconds={"witnesses[0]": 1.5},
            contradictions={"witnesses[0]": 0},
        )
    )
    first = samples(metrics)
    spool[0] = 200
    assert (first["extproc_spool_bytes", ()], samples(metrics)["extproc_spool_bytes", ()]) == (100, 200)
    assert first["extproc_spool_age_seconds", ()] == 2.5
    assert first["extproc_checkpoint_age_seconds", ()] == 7
    assert first["extproc_store_retries_total", ()] == 3
    assert first["extproc_store_conflicts_total", ()] == 0
    assert first["extproc_interrupted_total", ()] == 4
    assert first["extproc_spool_refused_logs", ()] == 1
    assert first["extproc_witness_behind_seconds", ("witnesses[0]",)] == 1.5
    assert first["extproc_witness_contradictions_total", ("witnesses[0]",)] == 0
