from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from extproc.approval.approval import Approval, State
from extproc.conversation import Answer, Usage
from extproc.endpoint import EndpointKind
from extproc.errors import Code, Refusal
from extproc.masking.finding import Action, Direction, Finding
from extproc.metrics import Metrics
from extproc.metrics_labels import Labels
from extproc.recording.story import Story
from tests.approving import NOW, request
from tests.metrics_of import refused, samples, told

GEN_AI = "gen_ai_server_request_duration_seconds"


def counted(*stories: Story) -> Metrics:
    metrics = Metrics(Labels(["gpt-5"], {"developers": "developers"}))
    for story in stories:
        metrics.observe(story, 102.0)
    return metrics


def test_a_finished_exchange_is_counted_with_its_times() -> None:
    found = samples(counted(told()))
    assert found["extproc_exchanges_total", ("chat", "completed")] == 1
    assert found["extproc_policy_decisions_total", ("allow", "developers")] == 1
    assert found[f"{GEN_AI}_sum", ("chat", "chat")] == pytest.approx(2.0)
    assert found["gen_ai_server_time_to_first_token_seconds_sum", ("chat", "gpt-5")] == pytest.approx(0.25)
    # 150 ms for the four tokens after the first.
    assert found["gen_ai_server_time_per_output_token_seconds_sum", ("chat", "gpt-5")] == pytest.approx(0.0375)
    assert not [name for name, _ in found if name in {"extproc_refusals_total", "extproc_identity_failures_total"}]


def test_tokens_are_counted_by_model_and_group() -> None:
    found = samples(counted(told(), told()))
    assert found["gen_ai_client_token_usage_sum", ("chat", "gpt-5", "input")] == 200
    assert found["gen_ai_client_token_usage_count", ("chat", "gpt-5", "output")] == 2
    assert found["extproc_tokens_total", ("developers", "gpt-5", "input")] == 200
    assert found["extproc_tokens_total", ("developers", "gpt-5", "output")] == 10


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        (EndpointKind.RESPONSES, "chat"),
        (EndpointKind.MESSAGES, "chat"),
        (EndpointKind.COMPLETIONS, "text_completion"),
        (EndpointKind.EMBEDDINGS, "embeddings"),
        (EndpointKind.AGENTS, "invoke_agent"),
    ],
)
def test_operations_have_the_names_of_the_conventions(kind: EndpointKind, operation: str) -> None:
    found = samples(counted(told(kind)))
    assert found[f"{GEN_AI}_count", (kind.value, operation)] == 1
    assert found["gen_ai_client_token_usage_count", (operation, "gpt-5", "input")] == 1


def test_what_asks_no_model_has_a_duration_alone() -> None:
    found = samples(counted(told(EndpointKind.GITHUB)))
    assert found[f"{GEN_AI}_count", ("github", "")] == 1
    assert {name for name, _ in found if name.startswith("gen_ai")} == {f"{GEN_AI}_count", f"{GEN_AI}_sum"}


def test_a_model_that_was_turned_down_or_never_asked_is_not_learned() -> None:
    unknown, denied = told(), told()
    unknown.model, unknown.upstream_status = "made-up", 404
    denied.model, denied.upstream_status = "secret", None
    found = samples(counted(unknown, denied))
    assert not {"made-up", "secret"} & {value for _, values in found for value in values}
    assert not [name for name, _ in found if "token" in name]


def test_the_rhythm_of_an_answer_that_waited_for_approvers_or_was_cut_is_not_the_models() -> None:
    held, cut, short = told(), told(), told()
    held.approvals = [{"id": "a1"}]
    cut.refused(Refusal(502, Code.UPSTREAM_RESET, "Reset."))
    short.answer = Answer("gpt-5", [], Usage(100, 1), complete=True)
    found = samples(counted(held, cut, short))
    assert not [name for name, _ in found if name.startswith("gen_ai_server_time_per_output_token")]
    assert found["gen_ai_server_time_to_first_token_seconds_count", ("chat", "gpt-5")] == 3


def test_counts_that_no_answer_has_are_left_out() -> None:
    odd = told()
    odd.answer = Answer("gpt-5", [], Usage(-1, 1 << 60), complete=True)
    assert not [name for name, _ in samples(counted(odd)) if name == "extproc_tokens_total"]


def test_how_long_masking_held_text_is_in_the_right_buckets() -> None:
    story = told()
    story.timing.held = [0.0, 0.0, 0.001, 0.15, 100.0]
    text = counted(story).render().decode()
    assert 'extproc_holdback_seconds_bucket{le="0.0"} 2.0' in text
    assert 'extproc_holdback_seconds_bucket{le="0.001"} 3.0' in text
    assert 'extproc_holdback_seconds_bucket{le="0.1"} 3.0' in text
    assert 'extproc_holdback_seconds_bucket{le="10.0"} 4.0' in text
    assert 'extproc_holdback_seconds_bucket{le="+Inf"} 5.0' in text
    assert "extproc_holdback_seconds_sum 100.151" in text


def test_a_refused_exchange_is_counted_by_its_code() -> None:
    denied = told()
    denied.refused(Refusal(422, Code.POLICY_DENIED, "No."))
    found = samples(counted(refused(), refused(), denied))
    assert found["extproc_exchanges_total", ("unknown", "denied")] == 2
    assert found["extproc_refusals_total", ("identity.missing",)] == 2
    assert found["extproc_refusals_total", ("policy.denied",)] == 1
    assert found["extproc_identity_failures_total", ("identity.missing",)] == 2
    assert ("extproc_identity_failures_total", ("policy.denied",)) not in found


def test_a_stream_that_never_brought_a_request_is_counted_without_a_duration() -> None:
    found = samples(counted(Story("x1")))
    assert found["extproc_exchanges_total", ("unknown", "none")] == 1
    assert not [name for name, _ in found if name.startswith(GEN_AI)]


def test_approvals_are_counted_by_how_they_ended_with_their_wait() -> None:
    metrics = Metrics()
    metrics.approval_ended(Approval(request(), State.APPROVED, ended_at=NOW + 90))
    metrics.approval_ended(Approval(request(), State.EXPIRED, ended_at=NOW + 900))
    found = samples(metrics)
    assert found["extproc_approvals_total", ("approved",)] == 1
    assert found["extproc_approval_wait_seconds_sum", ("approved",)] == 90
    assert found["extproc_approval_wait_seconds_sum", ("expired",)] == 900


def test_writes_of_the_store_and_the_loops_lag_are_counted() -> None:
    metrics = Metrics()
    metrics.wrote(0.002)
    metrics.lagged(0.5)
    found = samples(metrics)
    assert found["extproc_store_writes_total", ()] == found["extproc_store_write_seconds_count", ()] == 1
    assert found["extproc_store_write_seconds_sum", ()] == 0.002
    assert found["extproc_event_loop_lag_seconds_sum", ()] == 0.5


def test_what_runs_is_told() -> None:
    metrics = Metrics()
    metrics.describe("1.2.3", "d" * 64)
    found = samples(metrics)
    assert found["extproc_build_info", ("1.2.3",)] == 1
    assert found["extproc_policy_info", ("d" * 64,)] == 1


def test_no_label_can_hold_a_person_a_path_or_a_text() -> None:
    metrics = counted(told(), refused())
    families = text_string_to_metric_families(metrics.render().decode())
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    assert labels == {
        *("endpoint", "outcome", "rule", "effect", "code", "le", "type", "model", "group"),
        *("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type"),
    }


def test_the_page_about_metrics_has_each_with_its_type_and_labels() -> None:
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    told_of = {name: (kind, sorted(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    declared = {
        metric._name + ("_total" if metric._type == "counter" else ""): (metric._type, sorted(metric._labelnames))
        for metric in Metrics().registry._collector_to_names
        if isinstance(metric, MetricWrapperBase)
    }
    assert told_of == declared


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
    one.observe(told(), 102.0)
    found = samples(other)
    assert found["extproc_recording_failures_total", ()] == 0
    assert ("extproc_exchanges_total", ("chat", "completed")) not in found


def test_findings_are_counted_by_rule_direction_and_action() -> None:
    story = told()
    found = Finding("github-pat", Direction.ANSWER, "0.content", 3, Action.MASK, 1.0, "f" * 32)
    story.findings = [found, found, msgspec.structs.replace(found, action=Action.OBSERVE)]
    result = samples(counted(story))
    assert result["extproc_findings_total", ("mask", "answer", "github-pat")] == 2
    assert result["extproc_findings_total", ("observe", "answer", "github-pat")] == 1


def test_what_exchanges_count_is_there_for_others_once_it_is_settled_and_never_waits_without_bound() -> None:
    def counted_for_others() -> float:
        return sum(
            sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "extproc_exchanges_total"
        )

    metrics = counted(told())
    assert counted_for_others() == 0
    metrics.settle()
    assert counted_for_others() == 1
    for _ in range(1000):
        metrics.observe(told(), 102.0)
    assert counted_for_others() > 0.3 * 1000
